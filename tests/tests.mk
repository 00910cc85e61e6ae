# Tests. Every one is a program that prints TAP; tests/run runs them, counts, and prints the total.
#   tests/unit/FLOOR/NAME_test.c   C (cmocka), linked with that floor and those below it only
#   tests/lua/NAME_test.lua        Lua (luaunit), run by ./knbl
#   tests/net|lab|cli|kube|ffi/*   programs and scripts with namespaces or processes of their own; executable files
#   tests/fuzz/NAME_fuzz.c         libFuzzer targets; their corpora in tests/fuzz/corpus/NAME

UNIT := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/*/*_test.c))
define unit_test
$B/tests/$1/%_test: tests/unit/$1/%_test.c $$(call archives,$1)
	@mkdir -p $$(@D) && echo "  CC   $$<"
	$$(Q)$$(CC) $$(KN_CFLAGS) $$(CFLAGS) -MMD -MP -MF $$@.d -o $$@ $$< -Wl,--start-group $$(call archives,$1) -Wl,--end-group \
	    $$(KN_LDFLAGS) -lcmocka -pthread -lm $$(shell pkg-config --libs $$(sort $$(call packages,$1)))
endef
$(foreach f,$(FLOORS),$(eval $(call unit_test,$f)))

LUA_TESTS  := $(wildcard tests/lua/*_test.lua)
# as an ordinary user or root; seconds
QUICK      := $(UNIT) $(LUA_TESTS) $(wildcard tests/cli/*_test.lua tests/lab/*_test.lua tests/kube/*_test.lua tests/ffi/*_test.sh)
# the truth tests and what takes its time: in namespaces of their own
SLOW       := $(wildcard tests/net/*_test.lua tests/lab/slow/*_test.lua)
# so many of the quick ones at once: they wait more than they work
TEST_JOBS  ?= 3
THREADED   := $(filter $B/tests/net/% $B/tests/engines/% $B/tests/agent/%,$(UNIT))

# a Lua module of the tests: HTTPS that breaks off as it is told
$B/tests/kube/https.so: tests/kube/https.c
	@mkdir -p $(@D) && echo "  CC   $<"
	$(Q)$(CC) $(KN_CFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -shared -o $@ $< $(shell pkg-config --cflags --libs gnutls)

.PHONY: deps-all test-unit test-quick test-slow test-threads test-ffi
test-unit: $(UNIT)
	@B=$B tests/run $(UNIT)
test:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory test-quick
test-quick: all $(UNIT) $B/tests/kube/https.so
	@B=$B KNBL=./$(KNBL) TEST_JOBS=$(TEST_JOBS) tests/run $(QUICK)
test-slow: all
	@B=$B KNBL=./$(KNBL) TEST_TIMEOUT=420 tests/run $(SLOW)
test-threads: $(THREADED)
	@B=$B tests/run $(THREADED)
test-ffi: all
	@B=$B KNBL=./$(KNBL) tests/run $(wildcard tests/ffi/*_test.sh)
# everything: plain, under address+undefined and thread sanitizers, the fuzz corpora, clang, luacheck
check:
	@$(MAKE) --no-print-directory deps PACKAGES="$(PACKAGES) $(CHECK_PACKAGES)"
	@tests/tally "$(MAKE) --no-print-directory test-quick" "$(MAKE) --no-print-directory test-slow" \
	    "$(MAKE) -k --no-print-directory SAN=address,undefined test-quick test-slow" "$(MAKE) --no-print-directory SAN=thread test-threads" \
	    "$(MAKE) --no-print-directory fuzz-corpora" "$(MAKE) --no-print-directory B=build/clang CC=clang all" "$(MAKE) --no-print-directory lint"
deps-all:
	@$(MAKE) --no-print-directory deps PACKAGES="$(PACKAGES) $(CHECK_PACKAGES)"
CHECK_PACKAGES := clang libclang-rt-14-dev iproute2 nftables nginx-light util-linux runsc qemu-system-x86 linux-image-cloud-amd64 iperf3 qperf \
                  zsh fish libxml2-utils

# ---- the bench ---------------------------------------------------------------------------------------------------------
# as JSON and as Markdown (--json and --markdown are knbl's own)
BENCH_OPTIONS ?= --ledger $B/bench.json --table $B/bench.md
$B/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -o $@ $<
bench: all $B/bench/spawn $B/bench/bare_loop
	sh tests/bench/run.sh $B $(BENCH_OPTIONS)


# ---- fuzzing -----------------------------------------------------------------------------------------------------------
# tests/fuzz/NAME_fuzz.c becomes $B/fuzz/NAME: clang builds it and the floors that its includes name, once more, with the fuzzer's
# instrumentation. tests/fuzz/minimise.sh runs one for a while and keeps a small corpus.
FUZZ        := $(patsubst tests/fuzz/%_fuzz.c,$B/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_MAKE    = $(MAKE) --no-print-directory FUZZING=1 CC=clang B=$B/fuzz SAN=fuzzer-no-link,address,undefined
.PHONY: fuzz fuzz-corpora fuzz-force
ifeq ($(FUZZING),)
fuzz:
	+@$(FUZZ_MAKE) $(FUZZ)
$(FUZZ): $B/fuzz/%: fuzz-force
	+@$(FUZZ_MAKE) $@
fuzz-corpora: fuzz
	@B=$B tests/run tests/fuzz/corpora.sh
else
fuzz_floors   = $(filter $(FLOORS),$(sort $(shell sed -n 's|^\#include "\([a-z]*\)/.*|\1|p' $1)))
define fuzz_target
$B/$1: tests/fuzz/$1_fuzz.c $$(sort $$(foreach f,$$(call fuzz_floors,tests/fuzz/$1_fuzz.c),$$(call archives,$$f)))
	$$(CC) $$(KN_CFLAGS) $$(CFLAGS) -MMD -MP -MF $$@.d -o $$@ $$< -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group \
	    -fsanitize=fuzzer,address,undefined -Wl,--as-needed -pthread -lm $$(shell pkg-config --libs \
	    $$(sort $$(foreach f,$$(call fuzz_floors,tests/fuzz/$1_fuzz.c),$$(call packages,$$f))))
endef
$(foreach t,$(patsubst tests/fuzz/%_fuzz.c,%,$(wildcard tests/fuzz/*_fuzz.c)),$(eval $(call fuzz_target,$t)))
endif
