//go:build !race

package harness

// raceEnabled tells that the tests, and so the servers, are built with the race detector.
const raceEnabled = false
