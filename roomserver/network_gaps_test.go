package roomserver_test

import (
	"context"
	"encoding/json"

	"beep/matrix"
)

func (p *peer) MissingEvents(ctx context.Context, server, roomID string, earliest, latest []string, limit int) ([]json.RawMessage, error) {
	return nil, errDown
}
func (p *peer) ResolveAlias(ctx context.Context, alias string) (string, []string, error) {
	to, err := p.net.reach(matrix.ServerOf(alias))
	if err != nil {
		return "", nil, err
	}
	return to.rooms.ResolveOwnAlias(ctx, alias)
}
func (p *peer) Backfill(ctx context.Context, server, roomID string, from []string, limit int) ([]json.RawMessage, error) {
	return nil, errDown
}
func (p *peer) StateIDs(ctx context.Context, server, roomID, eventID string) (state, auth []string, err error) {
	return nil, nil, errDown
}
func (p *peer) State(ctx context.Context, server, roomID, eventID string) (state, auth []json.RawMessage, err error) {
	return nil, nil, errDown
}
func (p *peer) Event(ctx context.Context, server, eventID string) (json.RawMessage, error) {
	return nil, errDown
}
func (p *peer) EventAuth(ctx context.Context, server, roomID, eventID string) ([]json.RawMessage, error) {
	return nil, errDown
}
