// Package account has the rules of accounts: who may register, log in and act,
// with which devices and tokens, and how people prove who they are (client-server
// API, "Client Authentication").
package account
