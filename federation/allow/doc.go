// Package allow is a closed federation: it knows which servers may take part.
//
// A server is admitted by its name. The configuration has names, and patterns of names;
// a central authority may publish a list as a signed file ([Document]), which has names
// and, for those that it pins, the only keys that they may sign with. The file's serial
// never goes back, also over restarts; one that cannot be used leaves the last good one in
// force; one that has expired admits nobody.
//
// Whoever is about to deal with another server asks [List.Admit] and says at which [Point].
package allow
