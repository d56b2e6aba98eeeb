// Package config is the server's configuration: one struct, its defaults, and
// a loader that names every fault of a file at once.
//
// The doc comments of the fields in config.go are the documentation of the keys:
// the file that `homeserver init` writes and docs/configuration.md are made from
// them, so they speak to the person who runs the server.
package config
