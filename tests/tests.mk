# Tests. Every one is a program that prints TAP; tests/run runs them, counts, and prints the total.
#   tests/unit/FLOOR/NAME_test.c   C (cmocka), linked with that floor and those below it only
#   tests/lua/NAME_test.lua        Lua (luaunit), run by ./knbl
#   tests/net|lab|cli|kube|ffi/*   programs and scripts with namespaces or processes of their own; executable files
#   tests/fuzz/NAME_fuzz.c         libFuzzer targets; their corpora in tests/fuzz/corpus/NAME

UNIT := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/*/*_test.c))
define unit_test
$B/tests/$1/%_test: tests/unit/$1/%_test.c $$(call archives,$1) $(if $(filter lab,$1),build/agents.o)
	@mkdir -p $$(@D) && echo "  CC   $$<"
	$$(Q)$$(CC) $$(KN_CFLAGS) $$(CFLAGS) -MMD -MP -MF $$@.d -o $$@ $$< $(if $(filter lab,$1),build/agents.o) \
	    -Wl,--start-group $$(call archives,$1) -Wl,--end-group $$(KN_LDFLAGS) -lcmocka -pthread -lm \
	    $$(shell pkg-config --libs $$(sort $$(call packages,$1)))
endef
$(foreach f,$(FLOORS),$(eval $(call unit_test,$f)))

LUA_TESTS  := $(wildcard tests/lua/*_test.lua)
# as an ordinary user or root; seconds
QUICK      := $(UNIT) $(LUA_TESTS) \
              $(wildcard tests/cli/*_test.lua tests/lab/*_test.lua tests/kube/*_test.lua tests/ffi/*_test.sh)
# the truth tests and what takes its time: in namespaces of their own
SLOW       := $(wildcard $(addprefix tests/,net/*_test.lua lab/slow/*_test.lua lab/slow/*_test.sh release/*_test.sh))
# these run programs that they build themselves, or time what a sanitizer makes slow: once is enough
ONCE       := $(addprefix tests/,net/ssh_test.lua net/faults_test.lua net/probe_test.lua release/release_test.sh) \
              $(addprefix tests/lab/slow/,contributing_test.lua watch_test.lua mesh_test.lua arm64_machine_test.sh)
# so many of the quick ones at once: they wait more than they work
TEST_JOBS  ?= 3
# those in which memory runs out repeat much, and go with the address sanitizer only
THREADED   := $(filter-out %/starved_test,$(filter $B/tests/net/% $B/tests/engines/% $B/tests/agent/%,$(UNIT)))

# a Lua module of the tests: HTTPS that breaks off as it is told
$B/tests/kube/https.so: tests/kube/https.c
	@mkdir -p $(@D) && echo "  CC   $<"
	$(Q)$(CC) $(KN_CFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -shared -o $@ $< $(shell pkg-config --cflags --libs gnutls)

# servers that fail as they are told, for tests/net
$B/tests/fault_server $B/tests/http_faults: $B/tests/%: tests/net/%.c $(call archives,engines)
	@mkdir -p $(@D) && echo "  CC   $<"
	$(Q)$(CC) $(KN_CFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $< \
	    -Wl,--start-group $(call archives,engines) -Wl,--end-group $(KN_LDFLAGS) -pthread -lm \
	    $(shell pkg-config --libs $(sort $(call packages,engines)))

.PHONY: deps-all test-unit test-quick test-slow test-threads test-arm64 test-ffi
test-unit: $(UNIT)
	@B=$B tests/run $(UNIT)
test:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory test-quick
test-quick: all $(UNIT) $B/tests/kube/https.so
	@B=$B KNBL=./$(KNBL) TEST_JOBS=$(TEST_JOBS) TEST_TIMEOUT=$(if $(SAN),480) tests/run $(QUICK)
test-slow: all $B/tests/fault_server $B/tests/http_faults
	@B=$B KNBL=./$(KNBL) TEST_TIMEOUT=900 tests/run $(filter-out $(if $(SAN),$(ONCE)),$(SLOW))
test-threads: $(THREADED)
	@B=$B tests/run $(THREADED)
test-ffi: all
	@B=$B KNBL=./$(KNBL) tests/run $(wildcard tests/ffi/*_test.sh)
# the agent and all that it is made of, for arm64, in qemu's emulation of its CPU, which cannot do what is in
# tests/arm64.skip
ARM64_UNIT := $(filter-out %/starved_test,$(patsubst tests/unit/%.c,build/arm64/tests/%, \
              $(foreach f,$(call below,agent,$(FLOORS)),$(wildcard tests/unit/$f/*_test.c))))
test-arm64:
	@PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig $(MAKE) --no-print-directory \
	    B=build/arm64 CC="$(filter ccache,$(CC)) aarch64-linux-gnu-gcc" PKGS_fetch= PKGS_lab= PKGS_kube= PKGS_lua= \
	    $(ARM64_UNIT)
	@B=build/arm64 TEST_RUNNER=qemu-aarch64-static TEST_SKIP=tests/arm64.skip TEST_JOBS=2 TEST_TIMEOUT=240 \
	    tests/run $(ARM64_UNIT)
# Debian's kernel for a whole arm64 machine (tests/lab/slow/arm64_machine_test.sh): fetched by apt and unpacked, not
# installed
build/arm64-kernel:
	@rm -rf $@.new && mkdir -p $@.new && cd $@.new && \
	    apt-get -q -o APT::Sandbox::User=root download \
	        "$$(apt-cache depends linux-image-cloud-arm64:arm64 | sed -n 's/^ *Depends: //p' | head -1)" >/dev/null && \
	    dpkg -x *.deb . && rm *.deb
	@mv $@.new $@
# everything: plain, under address+undefined and thread sanitizers, the fuzz corpora, clang, luacheck.
# Without the plain tests (TESTED=1) for the gate, which has just run them.
check: deps-all
	-@$(MAKE) --no-print-directory build/arm64-kernel
	@tests/tally $(if $(TESTED),,"$(MAKE) --no-print-directory test-quick" "$(MAKE) --no-print-directory test-slow") \
	    "$(MAKE) -k --no-print-directory SAN=address,undefined test-quick test-slow" \
	    "$(MAKE) --no-print-directory SAN=thread test-threads" \
	    "$(MAKE) --no-print-directory test-arm64" "$(MAKE) --no-print-directory fuzz-corpora" \
	    "$(MAKE) --no-print-directory B=build/clang CC=clang all" "$(MAKE) --no-print-directory lint"
deps-all:
	@$(MAKE) --no-print-directory deps PACKAGES="$(PACKAGES) $(CHECK_PACKAGES)"
CHECK_PACKAGES = clang wireguard-go wireguard-tools clang-format libclang-rt-14-dev iproute2 nftables nginx-light \
                 util-linux runsc qemu-system-x86 qemu-system-arm linux-image-cloud-amd64 iperf3 qperf unbound \
                 dnsmasq-base lintian dpkg-dev rpm cpio systemd zsh fish libxml2-utils openssh-server openssh-client \
                 prometheus qemu-user-static libcmocka-dev:arm64 libssl-dev:arm64 nghttp2-client openssl \
                 $(AGENT_CROSS) $(RELEASE_CROSS)

# ---- the bench -----------------------------------------------------------------------------------------------------
# as JSON and as Markdown (--json and --markdown are knbl's own)
BENCH_OPTIONS ?= --ledger $B/bench.json --table $B/bench.md
$B/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -o $@ $<
bench: all $B/bench/spawn $B/bench/bare_loop
	sh tests/bench/run.sh $B $(BENCH_OPTIONS)
# a lab of a thousand nodes and a schedule over 200 of them: minutes, and 3 GB; with KUBECONFIG, a thousand agents
# behind the API server
.PHONY: bench-mesh
bench-mesh: all
	./$(KNBL) tests/bench/mesh.lua
	$(if $(KUBECONFIG),MESH_AGENTS=1000 KNBL=./$(KNBL) ./$(KNBL) tests/kube/schedule_e2e.lua)

# ---- fuzzing -------------------------------------------------------------------------------------------------------
# tests/fuzz/NAME_fuzz.c becomes $B/fuzz/NAME: clang builds it and the floors that its includes name, once more, with
# the fuzzer's instrumentation. tests/fuzz/minimise.sh runs one for a while and keeps a small corpus.
FUZZ        := $(patsubst tests/fuzz/%_fuzz.c,$B/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_MAKE    = $(MAKE) --no-print-directory FUZZING=1 CC=clang B=$B/fuzz SAN=fuzzer-no-link,address,undefined
.PHONY: fuzz fuzz-corpora fuzz-force fuzz-long
ifeq ($(FUZZING),)
fuzz:
	+@$(FUZZ_MAKE) $(FUZZ)
$(FUZZ): $B/fuzz/%: fuzz-force
	+@$(FUZZ_MAKE) $@
fuzz-corpora: fuzz
	@B=$B tests/run tests/fuzz/corpora.sh
# HOURS over all targets in turn; the corpora that it keeps are to be committed
HOURS ?= 1
fuzz-long: all fuzz
	@B=$B KNBL=./$(KNBL) tests/fuzz/long.sh $(HOURS)
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
