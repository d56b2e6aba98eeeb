// Package matrix is the vocabulary that every other package speaks: identifiers,
// events, room versions and errors, as the Matrix specification names them.
// It is pure: it does no input or output and keeps no state.
package matrix
