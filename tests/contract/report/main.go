// Command report prints what the contract tests of several processes have exercised together, and what never:
//
//	go run ./tests/contract/report FILE…
package main

import (
	"fmt"
	"os"

	"beep/tests/contract"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(files []string) error {
	if len(files) == 0 {
		return fmt.Errorf("usage: report FILE… (files written with %s)", contract.CoverageEnv)
	}
	dir, err := contract.DefaultDir()
	if err != nil {
		return err
	}
	spec, err := contract.Load(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := spec.Coverage().Merge(file); err != nil {
			return err
		}
	}
	fmt.Print(spec.Coverage())
	return nil
}
