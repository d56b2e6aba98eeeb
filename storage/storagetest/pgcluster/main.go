// Command pgcluster runs a command with a throwaway PostgreSQL cluster, whose
// superuser's URL it finds in BEEP_TEST_POSTGRES:
//
//	pgcluster [-durable] -- go test ./...
//
// With -durable the cluster keeps what it has committed over a crash. The exit
// code is the command's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"beep/storage/storagetest"
)

func main() {
	durable := flag.Bool("durable", false, "keep committed data over a crash of the cluster (slower)")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: pgcluster [-durable] -- command [argument...]")
		os.Exit(2)
	}
	err := run(*durable, flag.Args())
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgcluster:", err)
		os.Exit(1)
	}
}

func run(durable bool, command []string) error {
	cluster, err := storagetest.StartCluster(durable)
	if err != nil {
		return err
	}
	// The terminal's interrupt reaches the command as well: wait for its end.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), storagetest.Variable+"="+cluster.URL)
	err = cmd.Run()
	if stopped := cluster.Stop(); err == nil {
		err = stopped
	}
	return err
}
