package clientapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

// maxDeletedDevices is how many devices one request may delete.
const maxDeletedDevices = 1000

type device struct {
	DeviceID    string `json:"device_id"`
	DisplayName string `json:"display_name,omitzero"`
	LastSeenIP  string `json:"last_seen_ip,omitzero"`
	LastSeenTS  int64  `json:"last_seen_ts,omitzero"`
}

func deviceAnswer(d account.Device) device {
	return device{d.ID, d.DisplayName, d.Seen.IP, d.Seen.At}
}

type deviceList struct {
	Devices []device `json:"devices"`
}

// devices is GET /devices.
func (a *API) devices(ctx context.Context, who *account.Caller, _ *struct{}) (*deviceList, error) {
	all, err := a.accounts.Devices(ctx, who.UserID)
	if err != nil {
		return nil, err
	}
	list := &deviceList{make([]device, len(all))}
	for i, d := range all {
		list.Devices[i] = deviceAnswer(d)
	}
	return list, nil
}

type deviceRequest struct {
	DeviceID string `path:"deviceID"`
}

// device is GET /devices/{deviceId}.
func (a *API) device(ctx context.Context, who *account.Caller, req *deviceRequest) (*device, error) {
	d, err := a.accounts.Device(ctx, who.UserID, req.DeviceID)
	if err != nil {
		return nil, err
	}
	answer := deviceAnswer(d)
	return &answer, nil
}

type putDeviceRequest struct {
	DeviceID string `path:"deviceID"`
	Body     struct {
		DisplayName *string `json:"display_name"`
	}
}

// putDevice is PUT /devices/{deviceId}. Only an application service can make one.
func (a *API) putDevice(ctx context.Context, who *account.Caller, req *putDeviceRequest) (*web.Raw, error) {
	if who.Appservice == nil {
		return emptyWith(http.StatusOK), a.accounts.RenameDevice(ctx, who.UserID, req.DeviceID, req.Body.DisplayName)
	}
	made, err := a.accounts.PutDevice(ctx, who.UserID, req.DeviceID, req.Body.DisplayName)
	if made {
		return emptyWith(http.StatusCreated), err
	}
	return emptyWith(http.StatusOK), err
}

func emptyWith(status int) *web.Raw {
	return &web.Raw{Status: status, ContentType: "application/json", Body: []byte("{}")}
}

type deleteDeviceRequest struct {
	DeviceID string `path:"deviceID"`
	Body     struct {
		Auth *account.AuthData `json:"auth"`
	}
}

// deleteDevice is DELETE /devices/{deviceId}.
func (a *API) deleteDevice(ctx context.Context, who *account.Caller, req *deleteDeviceRequest) (*web.Empty, error) {
	return nil, a.delete(ctx, who, "DELETE /devices/{deviceId}", []string{req.DeviceID}, req.Body.Auth)
}

type deleteDevicesRequest struct {
	Body struct {
		Devices []string          `json:"devices"`
		Auth    *account.AuthData `json:"auth"`
	}
}

// deleteDevices is POST /delete_devices.
func (a *API) deleteDevices(ctx context.Context, who *account.Caller, req *deleteDevicesRequest) (*web.Empty, error) {
	if len(req.Body.Devices) > maxDeletedDevices {
		return nil, matrix.InvalidParam.Withf("At most %d devices can be deleted at once", maxDeletedDevices)
	}
	return nil, a.delete(ctx, who, "POST /delete_devices", req.Body.Devices, req.Body.Auth)
}

// delete removes devices after the user has given the password. An application
// service has none to give.
func (a *API) delete(ctx context.Context, who *account.Caller, name string, ids []string, auth *account.AuthData) error {
	if who.Appservice == nil {
		op := account.Operation{Name: name, UserID: who.UserID, Subject: digest(ids)}
		if _, err := a.accounts.Interact(ctx, op, auth); err != nil {
			return err
		}
	}
	return a.accounts.DeleteDevices(ctx, who.UserID, ids)
}

// digest stands for a set of ids, of which there may be many.
func digest(ids []string) string {
	sorted := slices.Sorted(slices.Values(ids))
	text, err := json.Marshal(sorted)
	if err != nil {
		return "" // cannot be: strings can always be marshalled
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}
