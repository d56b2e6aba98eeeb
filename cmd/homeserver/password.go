package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// passwordSource is the flags that say where a password comes from.
type passwordSource struct {
	Password     *string `xor:"password" placeholder:"TEXT" help:"The password. It can be seen in the list of processes and in the shell's history."`
	PasswordFile string  `xor:"password" placeholder:"FILE" help:"File whose first line is the password; - reads standard input."`
}

// passwordFileMax bounds what is read in search of the first line.
const passwordFileMax = 4 << 10

// password gives the password; generated tells that nobody knows it yet.
func (s *passwordSource) password(t terminal) (password string, generated bool, err error) {
	switch {
	case s.Password != nil:
		return *s.Password, false, nil
	case s.PasswordFile == "-":
		password, err = firstLine(t.in)
	case s.PasswordFile != "":
		password, err = passwordOf(s.PasswordFile)
	case term.IsTerminal(int(t.in.Fd())):
		password, err = ask(t)
	default:
		return rand.Text(), true, nil
	}
	return password, false, err
}

func passwordOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	defer file.Close()
	return firstLine(file)
}

func firstLine(in io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(in, passwordFileMax))
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// ask asks twice, without showing what is typed.
func ask(t terminal) (string, error) {
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(t.err, prompt)
		text, err := term.ReadPassword(int(t.in.Fd()))
		fmt.Fprintln(t.err)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ")
	}
	return typed[0], nil
}

func tellPassword(t terminal, password string, generated bool) {
	if generated {
		fmt.Fprintf(t.out, "Password: %s\n", password)
	}
}
