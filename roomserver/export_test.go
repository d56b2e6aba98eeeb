package roomserver

import "time"

// SetTurnWait sets how long events wait for those of other servers that come before them.
func (r *Rooms) SetTurnWait(d time.Duration) { r.turnWait = d }
