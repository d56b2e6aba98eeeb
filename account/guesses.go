package account

import (
	"context"

	"beep/web"
)

// LimitLogin is the kind under which [Options.Limiter] counts wrong passwords.
const LimitLogin = "login"

// guessRate is how often an account's password may be guessed from one address:
// ten times in a quarter of an hour.
var guessRate = web.Rate{PerSecond: 10.0 / (15 * 60), Burst: 10}

// guesses counts wrong passwords: by address, and by account and address. Not by
// account alone, or anybody could lock its owner out.
type guesses struct {
	byAddress *web.Limiter
	byAccount *web.Limiter
}

const guess = "guess"

func newGuesses(limiter *web.Limiter) *guesses {
	if limiter == nil {
		return &guesses{}
	}
	return &guesses{byAddress: limiter, byAccount: web.NewLimiter(map[string]web.Rate{guess: guessRate}, nil)}
}

// try counts a guess before it is made, so that guesses made at once all count.
// M_LIMIT_EXCEEDED. Forgive takes it back when it was right.
func (g *guesses) try(ctx context.Context, name string) (forgive func(), err error) {
	address := web.AddrKey(web.ClientAddr(ctx))
	both := name + "\x00" + address
	if err := g.byAccount.Allow(guess, both); err != nil {
		return nil, err
	}
	if err := g.byAddress.Allow(LimitLogin, address); err != nil {
		g.byAccount.Forgive(guess, both)
		return nil, err
	}
	return func() {
		g.byAccount.Forgive(guess, both)
		g.byAddress.Forgive(LimitLogin, address)
	}, nil
}
