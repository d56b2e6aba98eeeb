// Package stream is the order of everything that a client or another server may
// have to hear of: one counter of positions (Clock) and a bounded window of the
// newest entries (Log). It keeps no file and opens no connection.
//
// A writer reserves positions, commits its rows, publishes what they mean to the
// Log and then says Done. A reader keeps a cursor, waits until Current is past
// it, and reads the entries between. Because Current is the position below which
// everything is done, a reader never steps over a row that commits late.
package stream
