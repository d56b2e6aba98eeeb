package matrix

import (
	"fmt"
	"net/http"
	"time"
)

// Error is a failure that a client or another server is told about: a "standard
// error response" (client-server API, section "Standard error response").
//
// The zero value is of no use; start from one of the values below and refine it
// with [Error.With], [Error.Because], [Error.Field].
type Error struct {
	// Status is the HTTP status code of the answer.
	Status int
	// Code is the specification's errcode, as M_FORBIDDEN.
	Code string
	// Message is for people. It never holds a secret or an internal detail.
	Message string
	// RetryAfter, when not 0, is told as retry_after_ms and as Retry-After.
	RetryAfter time.Duration
	// Fields are further keys of the answer, as soft_logout or room_version.
	Fields map[string]any

	cause error
}

// Error is the text for logs: it has the private cause as well.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s", e.Code, e.Message)
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap gives the private cause.
func (e *Error) Unwrap() error { return e.cause }

// Is tells whether target is an Error with the same code, so that
// errors.Is(err, matrix.NotFound) holds whatever the message says.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// With is a copy that tells the client this message instead.
func (e *Error) With(message string) *Error {
	c := *e
	c.Message = message
	return &c
}

// Withf is [Error.With] with a format.
func (e *Error) Withf(format string, args ...any) *Error {
	return e.With(fmt.Sprintf(format, args...))
}

// Because is a copy with a private cause, which is logged and never sent.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Field is a copy with one more key in the answer.
func (e *Error) Field(key string, value any) *Error {
	c := *e
	c.Fields = make(map[string]any, len(e.Fields)+1)
	for k, v := range e.Fields {
		c.Fields[k] = v
	}
	c.Fields[key] = value
	return &c
}

// After is a copy that asks the client to wait that long.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// The specification's error codes, each with its usual status and a plain
// message. They are values to refine, never to change.
var (
	Forbidden               = newError(http.StatusForbidden, "M_FORBIDDEN", "You are not allowed to do this")
	MissingToken            = newError(http.StatusUnauthorized, "M_MISSING_TOKEN", "No access token was given")
	UnknownToken            = newError(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "The access token is not known, or is no longer valid")
	UserDeactivated         = newError(http.StatusForbidden, "M_USER_DEACTIVATED", "This account has been deactivated")
	UserLocked              = newError(http.StatusUnauthorized, "M_USER_LOCKED", "This account has been locked")
	UserSuspended           = newError(http.StatusForbidden, "M_USER_SUSPENDED", "This account has been suspended")
	BadJSON                 = newError(http.StatusBadRequest, "M_BAD_JSON", "The request's JSON is not of the expected form")
	NotJSON                 = newError(http.StatusBadRequest, "M_NOT_JSON", "The request's body is not valid JSON")
	NotFound                = newError(http.StatusNotFound, "M_NOT_FOUND", "Not found")
	Unrecognized            = newError(http.StatusNotFound, "M_UNRECOGNIZED", "This server does not know this endpoint")
	MethodNotAllowed        = newError(http.StatusMethodNotAllowed, "M_UNRECOGNIZED", "This endpoint does not know this method")
	LimitExceeded           = newError(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "Too many requests")
	Unknown                 = newError(http.StatusInternalServerError, "M_UNKNOWN", "The server failed to do this; its log says why")
	MissingParam            = newError(http.StatusBadRequest, "M_MISSING_PARAM", "A required parameter is missing")
	UnknownPos              = newError(http.StatusBadRequest, "M_UNKNOWN_POS", "The position in sliding sync is not known")
	InvalidParam            = newError(http.StatusBadRequest, "M_INVALID_PARAM", "A parameter is not valid")
	TooLarge                = newError(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "This is too large")
	UserInUse               = newError(http.StatusBadRequest, "M_USER_IN_USE", "This user name is taken")
	InvalidUsername         = newError(http.StatusBadRequest, "M_INVALID_USERNAME", "This is not a valid user name")
	Exclusive               = newError(http.StatusBadRequest, "M_EXCLUSIVE", "This name is reserved by an application service")
	WeakPassword            = newError(http.StatusBadRequest, "M_WEAK_PASSWORD", "This password is too weak")
	GuestAccessForbidden    = newError(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "Guests are not allowed to do this")
	RoomInUse               = newError(http.StatusBadRequest, "M_ROOM_IN_USE", "This room alias is taken")
	AliasExists             = newError(http.StatusConflict, "M_UNKNOWN", "This room alias is taken")
	BadAlias                = newError(http.StatusBadRequest, "M_BAD_ALIAS", "This alias does not point to the room")
	BadState                = newError(http.StatusForbidden, "M_BAD_STATE", "The room's state does not allow this")
	InvalidRoomState        = newError(http.StatusBadRequest, "M_INVALID_ROOM_STATE", "The initial state of the room is not valid")
	UnsupportedRoomVersion  = newError(http.StatusBadRequest, "M_UNSUPPORTED_ROOM_VERSION", "This server does not support this room version")
	IncompatibleRoomVersion = newError(http.StatusBadRequest, "M_INCOMPATIBLE_ROOM_VERSION", "The room has a version that is not supported")
	UnableToAuthoriseJoin   = newError(http.StatusBadRequest, "M_UNABLE_TO_AUTHORISE_JOIN", "This server cannot tell whether the join is allowed")
	UnableToGrantJoin       = newError(http.StatusBadRequest, "M_UNABLE_TO_GRANT_JOIN", "No user of this server may grant the join")
	ResourceLimitExceeded   = newError(http.StatusForbidden, "M_RESOURCE_LIMIT_EXCEEDED", "A limit of this server has been reached")
	UserLimitExceeded       = newError(http.StatusForbidden, "M_USER_LIMIT_EXCEEDED", "You have reached a limit of your account")
	CannotOverwriteMedia    = newError(http.StatusConflict, "M_CANNOT_OVERWRITE_MEDIA", "This has been uploaded already")
	NotYetUploaded          = newError(http.StatusGatewayTimeout, "M_NOT_YET_UPLOADED", "This has not been uploaded yet")
	ThreepidNotFound        = newError(http.StatusBadRequest, "M_THREEPID_NOT_FOUND", "This address is not known")
	ThreepidDenied          = newError(http.StatusForbidden, "M_THREEPID_DENIED", "This server does not accept such addresses")
	ThreepidMediumDenied    = newError(http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "Addresses of this kind cannot be used here")
	ServerNotTrusted        = newError(http.StatusForbidden, "M_SERVER_NOT_TRUSTED", "This server does not trust that server")
	ProfileTooLarge         = newError(http.StatusBadRequest, "M_PROFILE_TOO_LARGE", "The profile would exceed 64 KiB")
	KeyTooLarge             = newError(http.StatusBadRequest, "M_KEY_TOO_LARGE", "The name of the profile field exceeds 255 bytes")
	CannotLeaveServerNotice = newError(http.StatusForbidden, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", "The room of server notices cannot be left")
	UnsupportedMediaType    = newError(http.StatusUnsupportedMediaType, "M_UNKNOWN", "Send the body as application/json")
	DuplicateAnnotation     = newError(http.StatusBadRequest, "M_DUPLICATE_ANNOTATION", "This annotation has been made already")
	StillInRoom             = newError(http.StatusBadRequest, "M_UNKNOWN", "Leave the room before you forget it")
	WrongRoomKeysVersion    = newError(http.StatusForbidden, "M_WRONG_ROOM_KEYS_VERSION", "This is not the current backup")
	ServiceUnavailable      = newError(http.StatusServiceUnavailable, "M_UNKNOWN", "The server cannot do this now; try again")
)

func newError(status int, code, message string) *Error {
	return &Error{Status: status, Code: code, Message: message}
}
