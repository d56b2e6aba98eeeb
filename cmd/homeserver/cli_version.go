package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"beep/config"
	"beep/matrix"
)

type versionCommand struct{}

// Help serves kong.
func (*versionCommand) Help() string {
	return `Tells which version of the program this is, what it was built with, and which versions of
the Matrix specification and of rooms it speaks. Please give it with every report of a fault.

Example:

    homeserver version`
}

// Run serves kong.
func (*versionCommand) Run(t terminal) error {
	spec, rooms := matrix.SpecVersions(), matrix.RoomVersions()
	fmt.Fprintf(t.out, "homeserver %s\n", programVersion())
	fmt.Fprintf(t.out, "%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(t.out, "Matrix %s to %s\n", spec[0], spec[len(spec)-1])
	fmt.Fprintf(t.out, "room versions %s to %s; new rooms %s\n", rooms[0], rooms[len(rooms)-1], config.Default().Rooms.DefaultVersion)
	return nil
}

// programVersion is the version that the build recorded.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
