package roomserver

import "beep/matrix"

// checkHash is the third check on receipt: an event whose content hash is wrong counts
// in its redacted form ("Checks performed on receipt of a PDU", 3).
func checkHash(e *matrix.Event) (*matrix.Event, error) {
	if e.HashMatches() {
		return e, nil
	}
	return e.Redacted()
}
