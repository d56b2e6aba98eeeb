package account

import (
	"context"
	"errors"
	"log/slog"

	"beep/storage"
)

// leavingBatch is how many deactivated accounts are finished at one tick.
const leavingBatch = 20

// Deactivate ends an account for good: its devices and tokens are gone when it
// returns, and its name is never given to anybody else. With erase, its password
// is forgotten and other parts are asked to forget what it wrote. M_NOT_FOUND.
func (a *Accounts) Deactivate(ctx context.Context, userID string, erase bool) error {
	err := a.db.Write(ctx, func(tx *storage.Tx) error {
		if err := tx.DeactivateUser(ctx, userID, erase); err != nil {
			return err
		}
		if err := tx.DeletePurposeTokens(ctx, userID); err != nil {
			return err
		}
		return a.removeDevicesExcept(ctx, tx, userID, "")
	})
	if err != nil {
		return unknownUser(err)
	}
	user, err := a.db.User(ctx, userID)
	if err != nil {
		return err
	}
	if err := a.finishDeactivation(ctx, user); err != nil {
		// The account is closed; Run goes on with the rest.
		a.logger.Warn("could not take a deactivated user out of all rooms; trying again later",
			slog.String("user", userID), slog.Any("error", err))
	}
	return nil
}

// finishDeactivations does what is left of earlier deactivations: of those that
// were cut short, and of those that another process began.
func (a *Accounts) finishDeactivations(ctx context.Context) error {
	if len(a.options.OnDeactivate) == 0 {
		return nil
	}
	users, err := a.db.LeavingUsers(ctx, leavingBatch)
	if err != nil {
		return err
	}
	var failed []error
	for _, user := range users {
		failed = append(failed, a.finishDeactivation(ctx, user))
	}
	return errors.Join(failed...)
}

func (a *Accounts) finishDeactivation(ctx context.Context, user User) error {
	if len(a.options.OnDeactivate) == 0 || !user.Leaving {
		return nil
	}
	for _, do := range a.options.OnDeactivate {
		if err := do(ctx, user); err != nil {
			return err
		}
	}
	return a.db.Write(ctx, func(tx *storage.Tx) error { return tx.EndLeaving(ctx, user.ID) })
}
