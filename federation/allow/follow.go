package allow

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// notice is how long before its end a list is called old: that, or the last third of
	// its life if that is shorter.
	notice = 14 * 24 * time.Hour
	// lastDay is when it becomes urgent.
	lastDay = 24 * time.Hour
	// How often the log says so: before, and then.
	remindEvery       = 24 * time.Hour
	remindUrgentEvery = time.Hour
)

// reminder is what the log was told, and when.
type reminder struct {
	fault     string // of the file
	faultTold time.Time
	alarm     string // about the list in force
	alarmTold time.Time
}

// follow reads the file if it has changed, and again and again while it is at fault: that
// may be mended without a trace in the file itself.
func (p *published) follow(ctx context.Context, now time.Time) {
	if p.failed.Load() || p.changed() {
		p.complain(ctx, p.reload(ctx), now)
	}
	p.remind(ctx, now)
}

// changed compares the file with what was read last.
func (p *published) changed() bool {
	info, err := os.Stat(p.path)
	p.mu.Lock()
	defer p.mu.Unlock()
	return err != nil || p.file == nil || !os.SameFile(p.file, info) || !p.file.ModTime().Equal(info.ModTime()) || p.file.Size() != info.Size()
}

// complain logs why the file cannot be used: once, and as a reminder.
func (p *published) complain(ctx context.Context, err error, now time.Time) {
	if err == nil {
		p.fault = ""
		return
	}
	if ctx.Err() != nil || err.Error() == p.fault && now.Sub(p.faultTold) < remindUrgentEvery {
		return
	}
	p.fault, p.faultTold = err.Error(), now
	serial := int64(0)
	if e := p.inForce.Load(); e != nil {
		serial = e.Serial
	}
	p.logger.ErrorContext(ctx, "the file of the federation list cannot be used; the last good list stays in force",
		"file", p.path, "reason", err, "serial_in_force", serial)
}

// remind logs that the list in force ends soon, has ended, or was never there.
func (p *published) remind(ctx context.Context, now time.Time) {
	alarm, level, every := alarming(p.inForce.Load(), now)
	if alarm == p.alarm && (alarm == "" || now.Sub(p.alarmTold) < every) {
		return
	}
	p.alarm, p.alarmTold = alarm, now
	if alarm == "" {
		return
	}
	attributes := []slog.Attr{slog.String("file", p.path)}
	if e := p.inForce.Load(); e != nil {
		attributes = append(attributes, slog.Int64("serial", e.Serial), slog.String("expires", show(e.Expires)))
	}
	p.logger.LogAttrs(ctx, level, alarm, attributes...)
}

// alarming says what is wrong with the list in force, and how often that is to be said.
func alarming(e *edition, now time.Time) (alarm string, level slog.Level, every time.Duration) {
	if e == nil {
		return "there is no valid federation list: only servers that the configuration names are admitted", slog.LevelError, remindUrgentEvery
	}
	left, life := e.Expires-now.UnixMilli(), e.Expires-e.Issued // ms; too many for a Duration, perhaps
	switch {
	case left <= 0:
		return "the federation list has expired: only servers that the configuration names are admitted", slog.LevelError, remindUrgentEvery
	case left > min(notice.Milliseconds(), life/3):
		return "", 0, 0
	case left <= lastDay.Milliseconds():
		return "the federation list expires within a day; a new one is needed", slog.LevelError, remindUrgentEvery
	}
	return "the federation list expires soon; a new one is needed", slog.LevelWarn, remindEvery
}

// watch registers what is known of the list.
func (p *published) watch(registry *prometheus.Registry) {
	gauge := func(name, help string, value func(*edition) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if e := p.inForce.Load(); e != nil {
				return value(e)
			}
			return 0
		}))
	}
	gauge("federation_list_serial", "Serial of the federation list in force; 0 if there is none.",
		func(e *edition) float64 { return float64(e.Serial) })
	gauge("federation_list_servers", "Servers that the federation list in force has.",
		func(e *edition) float64 { return float64(len(e.servers)) })
	gauge("federation_list_expiry_timestamp_seconds", "When the federation list in force expires; 0 if there is none.",
		func(e *edition) float64 { return float64(e.Expires) / 1000 })
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "federation_list_file_fault",
		Help: "1 while the file of the federation list cannot be used.",
	}, func() float64 {
		if p.failed.Load() {
			return 1
		}
		return 0
	}))
}
