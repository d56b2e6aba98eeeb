# make test     everything that has to hold, on both databases; installs what it needs
# make build    the program, ./homeserver
# make run      the program, started
# make demo     two of them that federate, with what they need; DEMO has flags, as -help
# make bench    the benchmarks
# make fuzz     each fuzz target for FUZZTIME
# make simulate simulations of several servers from SEEDS seeds, the first one FROM, in
#               PROCESSES processes; the traces of those that fail, or of a single one, to TRACES
# make crash    CRASH_CYCLES kills of the server on each database, and CRASH_CLAIMS one-time keys claimed meanwhile
# make sytest   SyTest, checked out in SYTEST
# make clean    without what make has built

GO = go
FUZZTIME = 10s
CRASH_CYCLES = 100
CRASH_CLAIMS = 100000
SYTEST = ../sytest
DEMO =
SEEDS = 2000
FROM = 1
PROCESSES = 2
TRACES =
# The tests with mautrix encrypt by themselves, without a C library.
TAGS = -tags goolm
# Most of the tests wait for servers, not for processors.
PARALLEL = 6
# One PostgreSQL cluster for all tests of a command.
CLUSTER = $(GO) run ./storage/storagetest/pgcluster

.PHONY: build run demo test check bench fuzz simulate crash sytest clean

build:
	$(GO) build -o homeserver ./cmd/homeserver

run:
	$(GO) run ./cmd/homeserver

demo: build
	$(GO) build -o demo ./tests/demo
	@./demo $(DEMO)

test: check
	tests/setup.sh
	$(MAKE) simulate SEEDS=200
	$(CLUSTER) -- $(GO) test $(TAGS) -race -timeout 20m -parallel $(PARALLEL) ./...

check:
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	$(GO) vet $(TAGS) ./...

bench:
	$(CLUSTER) -durable -- $(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# Without the race detector, which makes a seed take four times as long; the tests have some with it.
simulate:
	$(GO) test -c -o simulation.test ./tests/simulation
	cd tests/simulation && seq $(PROCESSES) | SIMULATION_FROM=$(FROM) SIMULATION_SEEDS=$(SEEDS) SIMULATION_PARTS=$(PROCESSES) SIMULATION_TRACE=$(abspath $(TRACES)) \
		xargs -P $(PROCESSES) -I@part@ env SIMULATION_PART=@part@ $(CURDIR)/simulation.test -test.run '^TestSeeds$$' -test.timeout 0

crash:
	CRASH_CYCLES=$(CRASH_CYCLES) CRASH_CLAIMS=$(CRASH_CLAIMS) $(GO) test -count 1 -timeout 0 -v ./tests/crash

sytest: build
	HOMESERVER=$(CURDIR)/homeserver sytest/run.sh --whitelist sytest/expected-pass.txt \
		--only '^tests/(10apidoc|11register|12login|13logout|14account|21presence-events|30rooms|31sync|32room-versions|40presence|41end-to-end-keys|42tags|44account_data|45openid|46direct|49ignore|50federation|51media|90jira)' \
		$(SYTEST) sytest/launch.sh

clean:
	rm -f homeserver demo *.test
