# knbl - what the network of a Kubernetes cluster costs.
#
#   make            ./knbl, build/agent-ARCH, the libraries        make run      the first measurement
#   make test       the quick tests (seconds)                      make check    all of them, sanitizers, fuzz corpora
#   make bench      beside the peers                               make install  DESTDIR= PREFIX=/usr/local
#   make release    dist/: archive, agents, image, SHA256SUMS       make test-arm64  the agent's unit tests, emulated
#
# V=1 shows the commands. SAN=address,undefined or SAN=thread builds everything with that sanitizer, into a folder of
# its own. CC=clang works too.

VERSION := 0.1.0
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr/local
,       := ,
Q       := $(if $V,,@)
B       := build$(if $(SAN),/san-$(firstword $(subst $(,), ,$(SAN))))

# ---- what it needs -------------------------------------------------------------------------------------------------
PACKAGES := gcc libc6-dev pkg-config lua5.4 liblua5.4-dev lua-cjson lua-cjson-dev libjansson-dev libsodium-dev \
            libmicrohttpd-dev libcurl4-openssl-dev libssl-dev libnghttp2-dev libyaml-dev zlib1g-dev libnl-route-3-dev \
            nftables libgnutls28-dev libcmocka-dev lua-unit lua-check luajit musl-dev
PKGS_core    := jansson
PKGS_net     := libsodium openssl
PKGS_engines := libnghttp2
PKGS_fetch   := libcurl
PKGS_agent   := libmicrohttpd
PKGS_lab     := libnl-route-3.0 zlib
PKGS_kube    := yaml-0.1
PKGS_lua     := lua5.4 lua5.4-cjson zlib
# small and without a mind of their own: linked in, so that the binary runs where they are not installed
STATIC       := lua5.4 lua5.4-cjson sodium nl-3 nl-route-3 yaml

# ---- floors: each may use those before it, and no other -----------------------------------------------------------
FLOORS   := core net meter run engines agent fetch lab kube lua
# what ./knbl, the shared library and a test of a floor link: the floor and all below, top first
below     = $(if $(filter $1,$(firstword $2)),$1,$(call below,$1,$(wordlist 2,99,$2)) $(firstword $2))
archives  = $(patsubst %,$B/libkn_%.a,$(call below,$1,$(FLOORS)))
packages  = $(foreach f,$(call below,$1,$(FLOORS)),$(PKGS_$f))

WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
CFLAGS   ?= -O2 -g
SAN_FLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer) \
            $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
KN_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread $(WARN) -Isrc -I$B \
            -DKNBL_VERSION='"$(VERSION)"' $(SAN_FLAGS) \
            $(shell pkg-config --cflags $(sort $(foreach f,$(FLOORS),$(PKGS_$f))))
libs_of   = $(shell pkg-config --libs $(sort $(call packages,$1))) -pthread -lm
static_of = $(foreach l,$(call libs_of,$1),$(if $(filter $(STATIC:%=-l%),$l),$(l:-l%=-l:lib%.a),$l))
KN_LDFLAGS = $(if $(SAN),-fsanitize=$(SAN)) -Wl,--as-needed -Wl,-z,relro,-z,now

KNBL     := $(if $(filter build,$B),knbl,$B/knbl)
.PHONY: all run test check bench install uninstall clean deps lint format
all: deps-check $(KNBL) $B/libknbl.so $B/knbl.so agents

include tests/tests.mk

# ---- archives ------------------------------------------------------------------------------------------------------
define floor
OBJ_$1 := $$(patsubst src/%.c,$B/%.o,$$(wildcard src/$1/*.c src/$1/*/*.c))
$B/libkn_$1.a: $$(OBJ_$1)
	@rm -f $$@ && ar qcs $$@ $$(OBJ_$1)
endef
$(foreach f,$(FLOORS) abi,$(eval $(call floor,$f)))

$B/%.o: src/%.c Makefile
	@mkdir -p $(@D) && echo "  CC   $<"
	$(Q)$(CC) $(KN_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- the Lua library and the scenarios, embedded ------------------------------------------------------------------
EMBED    := $(sort $(wildcard lua/*.lua lua/*/*.lua lua/*/*/*.lua scenarios/*.lua))
$B/embed.S: $(EMBED) src/lua/embed.sh Makefile
	@mkdir -p $(@D)
	@sh src/lua/embed.sh kn_embedded $(EMBED) >$@
$B/embed.o: $B/embed.S $(EMBED)
	$(Q)$(CC) -c -o $@ $<

# ---- the agent alone -----------------------------------------------------------------------------------------------
# build/agent-ARCH: `knbl agent` as one static file of less than a megabyte, for this architecture and, where Debian's
# cross compiler and libraries are installed, for the other. musl is its C library; src/static/compat.h says how that
# goes with libraries built for glibc. Small code, but for the engines, which are as fast as in knbl.
A           := build
HOST_ARCH   := $(shell dpkg --print-architecture)
# what is built; another than this machine's is for releases (release-arch, below)
RELEASE_ARCH ?= $(HOST_ARCH)
ARCHES      := amd64 arm64
CPU_amd64   := x86_64
CPU_arm64   := aarch64
AGENT_PACKAGES := libmicrohttpd-dev libjansson-dev libsodium-dev libnghttp2-dev musl-dev
other_arch   = $(filter-out $(HOST_ARCH),$(ARCHES))
AGENT_CROSS := $(foreach a,$(other_arch),gcc-$(subst _,-,$(CPU_$a))-linux-gnu $(AGENT_PACKAGES:=:$a))
agent_cc     = $(filter ccache,$(CC)) $(if $(filter $(HOST_ARCH),$1),gcc,$(CPU_$1)-linux-gnu-gcc)
agent_lib    = /usr/lib/$(CPU_$1)-linux-gnu/lib$2.a
musl         = /usr/lib/$(CPU_$1)-linux-musl/$2
AGENT_LIBS  := microhttpd jansson sodium nghttp2
agent_needs  = $(shell command -v $(lastword $(call agent_cc,$1))) \
               $(wildcard $(foreach l,$(AGENT_LIBS),$(call agent_lib,$1,$l)) $(call musl,$1,libc.a))
AGENTS      := $(foreach a,$(ARCHES),$(if $(word 6,$(call agent_needs,$a)),$A/agent-$a))
AGENT_SRC   := $(addprefix src/static/,main.c guest.c compat.c no_tls.c) src/agent_command.c src/process.c \
               $(filter-out src/net/tls.c,$(foreach f,$(call below,agent,$(FLOORS)), \
               $(wildcard src/$f/*.c src/$f/*/*.c)))
FAST        := src/core/hist.c src/core/pace.c src/core/clock.c src/net/% src/run/% src/engines/%
AGENT_CFLAGS = -nostdinc -isystem /usr/include/$(CPU_$1)-linux-musl \
               -isystem $(shell $(call agent_cc,$1) -print-file-name=include) \
               -idirafter /usr/include/$(CPU_$1)-linux-gnu -idirafter /usr/include -include src/static/compat.h \
               -std=c11 -D_GNU_SOURCE -DKNBL_VERSION='"$(VERSION)"' -Wall -Wextra -Isrc -pthread -fPIE \
               -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables
AGENT_LDFLAGS := -nostdlib -nostartfiles -static-pie -s -Wl,--gc-sections -Wl,-z,relro,-z,now \
                 -Wl,-z,stack-size=2097152
# a static program: $1 its architecture, $2 what it is made of, $3 libraries
static_link  = $(AGENT_LDFLAGS) -o $@ $(call musl,$1,rcrt1.o) $(call musl,$1,crti.o) $2 \
               -Wl,--start-group $3 $(call musl,$1,libc.a) -lgcc -Wl,--end-group $(call musl,$1,crtn.o)

define agent
AGENT_OBJ_$1 := $$(AGENT_SRC:src/%.c=$A/static-$1/%.o) $A/static-$1/standins.o
$A/agent-$1: $$(AGENT_OBJ_$1)
	@echo "  LINK $$@"
	$$(Q)$$(call agent_cc,$1) \
	    $$(call static_link,$1,$$(AGENT_OBJ_$1),$$(foreach l,$$(AGENT_LIBS),$$(call agent_lib,$1,$$l)))
$A/static-$1/%.o: src/%.c Makefile src/static/compat.h
	@mkdir -p $$(@D)
	$$(Q)$$(call agent_cc,$1) $$(call AGENT_CFLAGS,$1) $$(if $$(filter $$(FAST),$$<),-O2,-Os) -MMD -MP \
	    -c -o $$@ $$<
$A/static-$1/standins.o: src/static/standins.sh
	@mkdir -p $$(@D)
	$$(Q)sh src/static/standins.sh $$(call agent_lib,$1,microhttpd) >$A/static-$1/standins.c
	$$(Q)$$(call agent_cc,$1) -fPIE -Os -ffunction-sections -c -o $$@ $A/static-$1/standins.c
endef
$(foreach a,$(ARCHES),$(eval $(call agent,$a)))

# both inside knbl, compressed: lab/agents.h unpacks them
$A/agent-%.gz: $A/agent-%
	$(Q)gzip -9nc $< >$@
$A/agents.S: $(AGENTS:=.gz) src/lua/embed.sh
	@mkdir -p $(@D)
	@sh src/lua/embed.sh kn_agents $(AGENTS:=.gz) >$@
$A/agents.o: $A/agents.S $(AGENTS:=.gz)
	$(Q)gcc -c -o $@ $<
AGENTS_O := $(if $(filter $(HOST_ARCH),$(RELEASE_ARCH)),$A,$B)/agents.o
ifneq ($(RELEASE_ARCH),$(HOST_ARCH))
$B/agents.o: $A/agents.S $(AGENTS:=.gz)
	$(Q)$(CC) -c -o $@ $<
endif

.PHONY: agents
agents: $(AGENTS)
	@: $(if $(filter %-$(other_arch),$(AGENTS)),,; \
	    echo "make: build/agent-$(other_arch) needs these packages: $(AGENT_CROSS)" >&2)

# ---- products ------------------------------------------------------------------------------------------------------
# all of Lua's API stays visible, for the C modules that a script may load
PROGRAM  := $B/main.o $B/agent_command.o $B/process.o
KNBL_PARTS = $(PROGRAM) $B/embed.o $(AGENTS_O) -Wl,--start-group $(call archives,lua) -Wl,--end-group \
             -Wl,--whole-archive -l:liblua5.4.a -Wl,--no-whole-archive -Wl,--exclude-libs,libsodium.a \
             $(filter-out -l:liblua5.4.a,$(call static_of,lua))
$(KNBL): $(PROGRAM) $B/embed.o $(AGENTS_O) $(call archives,lua)
	@echo "  LINK $@"
	$(Q)$(CC) $(KN_LDFLAGS) -rdynamic -o $@ $(KNBL_PARTS)
# the engines for everyone: only what knbl.h names is visible
$B/libknbl.so: $B/libkn_abi.a $(call archives,agent) src/abi/libknbl.map
	@echo "  LINK $@"
	$(Q)$(CC) $(KN_LDFLAGS) -shared -Wl,-soname,libknbl.so.0 -Wl,--version-script=src/abi/libknbl.map -o $@ \
	    -Wl,--whole-archive $B/libkn_abi.a -Wl,--no-whole-archive $(call archives,agent) $(call libs_of,agent)
	@ln -sf libknbl.so $@.0
# the modules for a stock lua5.4: require "knbl"; Lua itself is the program's
$B/knbl.so: $B/embed.o $(AGENTS_O) $(call archives,lua)
	@echo "  LINK $@"
	$(Q)$(CC) $(KN_LDFLAGS) -shared -o $@ $B/embed.o $(AGENTS_O) \
	    -Wl,--whole-archive $B/libkn_lua.a -Wl,--no-whole-archive \
	    $(filter-out $B/libkn_lua.a,$(call archives,lua)) $(filter-out -llua5.4%,$(call libs_of,lua))

# ---- set-up --------------------------------------------------------------------------------------------------------
# a missing library is named with its package; `make run` and `make test` install what is missing
deps-check:
	@sh tests/deps.sh check $(PACKAGES)
deps:
	@sh tests/deps.sh install $(PACKAGES)

run:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	./knbl scenarios/pod_to_svc.lua --duration 200ms --requests 2000

# ---- installation --------------------------------------------------------------------------------------------------
LIBDIR   ?= $(PREFIX)/lib
LUADIR   := $(PREFIX)/share/lua/5.4
LUALIBDIR := $(PREFIX)/lib/lua/5.4
PUT      := install -D -m
$B/knbl.1: $(KNBL) docs/man.lua $(EMBED)
	./$(KNBL) docs/man.lua >$@.new && mv $@.new $@
$B/knbl.pc: Makefile
	@printf 'Name: knbl\nDescription: %s\nVersion: %s\nRequires.private: %s\nLibs: -L%s -lknbl\nCflags: -I%s\n' \
	    "The engines of knbl: network measurements over one port" "$(VERSION)" "$(sort $(call packages,agent))" \
	    "$(LIBDIR)" "$(PREFIX)/include" >$@

$B/knbl.bash $B/knbl.zsh $B/knbl.fish: $B/knbl.%: $(KNBL)
	./$(KNBL) completion $* >$@.new && mv $@.new $@

install: all $B/knbl.1 $B/knbl.bash $B/knbl.zsh $B/knbl.fish
	@rm -f $B/knbl.pc && $(MAKE) --no-print-directory $B/knbl.pc
	$(PUT) 755 $(KNBL) $(DESTDIR)$(PREFIX)/bin/knbl
	$(PUT) 644 src/knbl.h $(DESTDIR)$(PREFIX)/include/knbl.h
	$(PUT) 755 $B/libknbl.so $(DESTDIR)$(LIBDIR)/libknbl.so.$(VERSION)
	ln -sf libknbl.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libknbl.so.0
	ln -sf libknbl.so.0 $(DESTDIR)$(LIBDIR)/libknbl.so
	$(PUT) 644 $B/knbl.pc $(DESTDIR)$(LIBDIR)/pkgconfig/knbl.pc
	$(PUT) 755 $B/knbl.so $(DESTDIR)$(LUALIBDIR)/knbl.so
	@for f in $(filter lua/%,$(EMBED)); do $(PUT) 644 $$f $(DESTDIR)$(LUADIR)/$${f#lua/}; done
	@install -d $(DESTDIR)$(PREFIX)/share/lua/5.1 && ln -sfn ../5.4/knbl $(DESTDIR)$(PREFIX)/share/lua/5.1/knbl
	$(PUT) 644 $B/knbl.1 $(DESTDIR)$(PREFIX)/share/man/man1/knbl.1
	$(PUT) 644 $B/knbl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/knbl
	$(PUT) 644 $B/knbl.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_knbl
	$(PUT) 644 $B/knbl.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/knbl.fish

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/knbl include/knbl.h share/man/man1/knbl.1 \
	    share/bash-completion/completions/knbl share/zsh/site-functions/_knbl share/fish/vendor_completions.d/knbl.fish) \
	    $(DESTDIR)$(LUALIBDIR)/knbl.so
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libknbl.so.$(VERSION) libknbl.so.0 libknbl.so pkgconfig/knbl.pc)
	rm -rf $(DESTDIR)$(LUADIR)/knbl $(DESTDIR)$(PREFIX)/share/lua/5.1/knbl

# ---- the agent's image, and the tests on a real cluster ------------------------------------------------------------
# e2e runs on the cluster that KUBECONFIG names: with the image, which E2E_LOAD puts there ("kind load image-archive": a
# command that takes the archive's name), and once more with the agent injected
IMAGE    ?= $B/knbl-$(VERSION).tar
.PHONY: image e2e
image: $(KNBL)
	./$(KNBL) image save $(IMAGE)
e2e: all image $B/tests/kube/https.so
	$(if $(E2E_LOAD),$(E2E_LOAD) $(IMAGE))
	@rm -f $B/e2e-peers.txt; export KNBL=./$(KNBL) TEST_TIMEOUT=900; \
	    B=$B tests/run $(wildcard tests/kube/*_e2e.lua); code=$$?; \
	    E2E_INJECT=1 tests/run tests/kube/scenarios_e2e.lua tests/kube/scripts_e2e.lua || code=1; \
	    cat $B/e2e-peers.txt 2>/dev/null; exit $$code

# ---- releases ------------------------------------------------------------------------------------------------------
# dist/: the archive that runs on any Linux, .deb, .rpm, the agents, the image, what installs them, SHA256SUMS; the same
# bytes each time
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
MAINTAINER ?= The knbl authors <knbl@packages.invalid>
# where dist/ will be published, for the manifests that name it
RELEASE_URL ?=
export SOURCE_DATE_EPOCH MAINTAINER
D        := dist
room      = $1$(shell printf '%*s' $$((1000 - $(shell printf %s $1 | wc -c))) | tr ' ' /)
# knbl once more, with LIBRARIES and LOADER as the paths of what it loads
link_knbl = $(Q)$(CC) $(KN_LDFLAGS) -rdynamic -s -Wl,--disable-new-dtags,-rpath,$1 -Wl,--dynamic-linker=$2 \
	    -o $@ $(KNBL_PARTS)
# of the archive: with room, which the launcher fills in
$B/knbl.in: $(KNBL)
	$(call link_knbl,$(call room,/knbl-libraries),$(call room,/knbl-loader))
# of the .rpm: its libraries come with it
$B/knbl.usr: $(KNBL)
	$(call link_knbl,/usr/lib/knbl,/usr/lib/knbl/loader)
$B/launcher: src/static/launcher.c
	$(Q)$(call agent_cc,$(RELEASE_ARCH)) $(call AGENT_CFLAGS,$(RELEASE_ARCH)) -Os $(call static_link,$(RELEASE_ARCH),$<)
# the program nft, which the lab runs. Debian's packages of two architectures cannot both be installed, so the other is
# unpacked only
NFT      := $(if $(filter $(HOST_ARCH),$(RELEASE_ARCH)),/usr/sbin/nft,$B/nft/usr/sbin/nft)
$B/nft/usr/sbin/nft:
	@rm -rf $B/nft && mkdir -p $B/nft
	cd $B/nft && apt-get download -q nftables:$(RELEASE_ARCH) && dpkg -x nftables_*.deb .
# what the other architecture's program is built with and loads
RELEASE_CROSS := $(patsubst %,%:$(other_arch),liblua5.4-dev lua-cjson-dev libcurl4-openssl-dev libssl-dev \
                   libnghttp2-dev libyaml-dev zlib1g-dev libnl-route-3-dev libnftables1 libedit2)
.PHONY: release release-arch
# of one architecture, into D
release-arch: $(KNBL) $B/knbl.in $B/knbl.usr $B/launcher $(NFT)
	sh packaging/archive.sh $B $(VERSION) $(RELEASE_ARCH) $(NFT) $D/knbl-$(VERSION)-linux-$(RELEASE_ARCH).tar.gz
	sh packaging/deb.sh $B $(VERSION) $(RELEASE_ARCH) $(KNBL) $D/knbl_$(VERSION)_$(RELEASE_ARCH).deb
	sh packaging/rpm.sh $B $(VERSION) $(RELEASE_ARCH) $(NFT) $D/knbl-$(VERSION)-1.$(CPU_$(RELEASE_ARCH)).rpm
release: $(KNBL) agents $B/knbl.1 $B/knbl.bash $B/knbl.zsh $B/knbl.fish
	@: $(if $(filter %-$(other_arch),$(AGENTS)),,; echo "make: a release has both agents" >&2; exit 1)
	@rm -rf $D && mkdir -p $D
	@$(MAKE) --no-print-directory release-arch
	@lacks=$$(sh tests/deps.sh list $(AGENT_CROSS) $(RELEASE_CROSS)); if [ -z "$$lacks" ]; then \
	    PKG_CONFIG_LIBDIR=/usr/lib/$(CPU_$(other_arch))-linux-gnu/pkgconfig:/usr/share/pkgconfig \
	        $(MAKE) --no-print-directory RELEASE_ARCH=$(other_arch) B=build/$(other_arch) \
	        CC="$(call agent_cc,$(other_arch))" release-arch; \
	    else echo "make: dist/ is without the archive and the packages for $(other_arch)," \
	        "which need these packages:$$lacks" >&2; fi
	$(foreach a,$(AGENTS),cp $a $D/knbl-$(notdir $a)-$(VERSION) &&) true
	./$(KNBL) image save $D/knbl-image-$(VERSION).tar
	RELEASE_URL=$(RELEASE_URL) sh packaging/manifests.sh $(VERSION) $D
	cd $D && sha256sum * >SHA256SUMS

# ---- checks without running ----------------------------------------------------------------------------------------
lua/knbl/cdef.lua: src/knbl.h src/abi/cdef.sh
	sh src/abi/cdef.sh src/knbl.h >$@
C_FILES = $(shell find src tests -name '*.[ch]')
TEXTS   = Makefile tests/run tests/tally $(C_FILES) $(wildcard docs/*.c docs/*/*.c) \
          $(shell find src lua scenarios tests docs packaging -name '*.lua' -o -name '*.sh' -o -name '*.mk')
lint:
	@! LC_ALL=C.UTF-8 grep -nE '^.{121,}' $(TEXTS) || { echo "make: a line has at most 120 characters" >&2; exit 1; }
	luacheck -q lua scenarios tests docs
	clang-format --dry-run -Werror $(C_FILES)
format:
	clang-format -i $(C_FILES)

clean:
	rm -rf build knbl

-include $(shell find $B -type f -name '*.d' 2>/dev/null)
