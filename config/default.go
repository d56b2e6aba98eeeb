package config

import "time"

// Default is the configuration of a server that was told nothing. Values that
// depend on others (the database in the data directory, the public address)
// are empty in it; [Load] fills them in.
func Default() *Config {
	return &Config{
		Data:           "data",
		Listeners:      []Listener{{Address: "127.0.0.1:8008"}},
		TrustedProxies: []Network{},
		Registration:   Registration{PasswordMinLength: 8, Terms: []Terms{}},
		Login: Login{
			AccessTokenLifetime: time.Hour,
			LoginTokenLifetime:  2 * time.Minute,
		},
		Rooms:    Rooms{DefaultVersion: "12"},
		Presence: Presence{Enabled: true},
		Federation: Federation{
			Enabled: true, Allow: []string{}, List: FederationList{Keys: map[string]string{}},
			TrustedNotaries: []string{}, AllowedNetworks: []Network{}, OldVerifyKeys: []OldVerifyKey{},
		},
		IdentityServers: IdentityServers{Allow: []string{}, AllowedNetworks: []Network{}},
		Media:           defaultMedia(),
		Limits:          defaultLimits(),
		WellKnown:       WellKnown{Client: map[string]any{}, Support: Support{Contacts: []Contact{}}},
		Logging:         Logging{Level: "info", Format: "text"},
	}
}

// defaultMedia has the thumbnails that the specification asks for, and larger ones for
// screens of today.
func defaultMedia() Media {
	return Media{
		MaxUpload: 50 << 20, MaxRemote: 100 << 20, RemoteCache: 10 << 30, UserQuota: 10 << 30, UserFiles: 100_000,
		PendingUploads: 20, PendingLifetime: day, Freeze: true,
		Thumbnails: []ThumbnailSize{
			{32, 32, "crop"}, {96, 96, "crop"}, {320, 320, "crop"}, {640, 640, "crop"},
			{320, 240, "scale"}, {640, 480, "scale"}, {800, 600, "scale"}, {1600, 1200, "scale"},
		},
		MaxPixels: 32_000_000,
	}
}

func defaultLimits() Limits {
	return Limits{
		RequestBody:           1 << 20,
		ConnectionsPerAddress: 500,
		Rates: Rates{
			Registration: Rate{PerSecond: 0.2, Burst: 5},
			Login:        Rate{PerSecond: 0.2, Burst: 10},
			Message:      Rate{PerSecond: 10, Burst: 50},
			Join:         Rate{PerSecond: 1, Burst: 20},
			Invite:       Rate{PerSecond: 1, Burst: 30},
			Federation:   Rate{PerSecond: 100, Burst: 500},
			Upload:       Rate{PerSecond: 2, Burst: 50},
			Media:        Rate{PerSecond: 50, Burst: 500},
			RemoteMedia:  Rate{PerSecond: 5, Burst: 100},
			Other:        Rate{PerSecond: 50, Burst: 200},
		},
	}
}
