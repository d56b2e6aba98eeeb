package roomserver

import "time"

// SetTurnWait sets how long events wait for those of other servers that come before them.
func (r *Rooms) SetTurnWait(d time.Duration) { r.turnWait = d }

// Completing tells whether [Rooms.Run] is at work.
func (r *Rooms) Completing() bool { return r.partial.isRunning() }

// SetPolicyTime sets how long policy servers are waited for.
func (r *Rooms) SetPolicyTime(d time.Duration) { r.policyTime = d }
