package authrules

// allowMember is the rule for m.room.member.
func (c *check) allowMember() error {
	e := c.event
	if e.StateKey == nil {
		return refuse("m.room.member has no state_key")
	}
	sender, target := e.Sender, *e.StateKey
	switch membership := e.Membership(); {
	case membership == "join":
		return c.allowJoin(sender, target)
	case membership == "invite":
		return c.allowInvite(sender, target)
	case membership == "leave":
		return c.allowLeave(sender, target)
	case membership == "ban":
		return c.allowBan(sender, target)
	case membership == "knock" && e.Version.Knocking():
		return c.allowKnock(sender, target)
	default:
		return refuse("the membership %q is unknown", membership)
	}
}

// joinRule is the room's join rule; "invite" without one.
func (c *check) joinRule() string {
	if e := c.find(RulesName); e != nil {
		return e.rule
	}
	return "invite"
}

func (c *check) allowJoin(sender, target string) error {
	if prev := c.event.PrevEvents(); len(prev) == 1 && prev[0] == c.create.ID && target == c.create.create.creators[0] {
		return nil
	}
	if sender != target {
		return refuse("nobody can join for another")
	}
	before, v := c.membership(sender), c.event.Version
	if before == "ban" {
		return refuse("the sender is banned")
	}
	invited := before == "invite" || before == "join"
	rule := c.joinRule()
	switch {
	case rule == "public":
		return nil
	case rule == "invite", rule == "knock" && v.Knocking():
		if invited {
			return nil
		}
	case rule == "restricted" && v.Restricted(), rule == "knock_restricted" && v.KnockRestricted():
		if invited || c.mayLetIn(c.event.member.authoriser) {
			return nil
		}
	}
	return refuse("the join rule %q forbids it", rule)
}

// mayLetIn tells whether the user may vouch for others under a restricted join rule.
func (c *check) mayLetIn(user string) bool {
	return user != "" && c.membership(user) == "join" && c.levels.User(user) >= c.levels.Invite
}

func (c *check) allowInvite(sender, target string) error {
	if c.event.member.thirdParty != nil {
		return c.allowThirdParty(target)
	}
	if c.membership(sender) != "join" {
		return refuse("the sender is not in the room")
	}
	switch before := c.membership(target); before {
	case "join", "ban":
		return refuse("the user's membership is %q", before)
	}
	return atLeast(c.levels.User(sender), c.levels.Invite, "invite")
}

func (c *check) allowLeave(sender, target string) error {
	before := c.membership(target)
	if sender == target {
		if before == "invite" || before == "join" || before == "knock" && c.event.Version.Knocking() {
			return nil
		}
		return refuse("the membership is %q", before)
	}
	if c.membership(sender) != "join" {
		return refuse("the sender is not in the room")
	}
	level := c.levels.User(sender)
	if before == "ban" && level < c.levels.Ban {
		return atLeast(level, c.levels.Ban, "lift a ban")
	}
	if err := atLeast(level, c.levels.Kick, "remove a user"); err != nil {
		return err
	}
	return c.above(level, target)
}

func (c *check) allowBan(sender, target string) error {
	if c.membership(sender) != "join" {
		return refuse("the sender is not in the room")
	}
	level := c.levels.User(sender)
	if err := atLeast(level, c.levels.Ban, "ban"); err != nil {
		return err
	}
	return c.above(level, target)
}

// above refuses what is done to a user whose power level is not below level.
func (c *check) above(level int64, target string) error {
	if other := c.levels.User(target); other >= level {
		return refuse("the sender's power level is %d, the user's is %d", level, other)
	}
	return nil
}

func (c *check) allowKnock(sender, target string) error {
	rule := c.joinRule()
	if rule != "knock" && (rule != "knock_restricted" || !c.event.Version.KnockRestricted()) {
		return refuse("the join rule %q forbids it", rule)
	}
	if sender != target {
		return refuse("nobody can knock for another")
	}
	switch before := c.membership(sender); before {
	case "ban", "invite", "join":
		return refuse("the membership is %q", before)
	}
	return nil
}
