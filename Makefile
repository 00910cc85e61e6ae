# knbl - what the network of a Kubernetes cluster costs.
#
#   make            ./knbl, build/libknbl.so, build/knbl.so        make run      the first measurement
#   make test       the quick tests (seconds)                      make check    all of them, sanitizers, fuzz corpora
#   make bench      beside the peers                               make install  DESTDIR= PREFIX=/usr/local
#
# V=1 shows the commands. SAN=address,undefined or SAN=thread builds everything with that sanitizer, into a folder of its own. CC=clang works too.

VERSION := 0.1.0
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr/local
,       := ,
Q       := $(if $V,,@)
B       := build$(if $(SAN),/san-$(firstword $(subst $(,), ,$(SAN))))

# ---- what it needs -------------------------------------------------------------------------------------------------
PACKAGES := gcc libc6-dev pkg-config lua5.4 liblua5.4-dev lua-cjson lua-cjson-dev libjansson-dev libsodium-dev libmicrohttpd-dev \
            libcurl4-openssl-dev libyaml-dev zlib1g-dev liblz4-dev libnl-route-3-dev libnftables-dev libgnutls28-dev libcmocka-dev lua-unit lua-check luajit
PKGS_core    := jansson
PKGS_net     := libsodium
PKGS_fetch   := libcurl
PKGS_agent   := libmicrohttpd
PKGS_lab     := libnl-route-3.0 libnftables liblz4 zlib
PKGS_kube    := yaml-0.1
PKGS_lua     := lua5.4 lua5.4-cjson zlib
# small and without a mind of their own: linked in, so that the binary runs where they are not installed
STATIC       := lua5.4 lua5.4-cjson sodium nl-3 nl-route-3 yaml lz4

# ---- floors: each may use those before it, and no other -----------------------------------------------------------
FLOORS   := core net meter engines agent fetch lab kube lua
# what ./knbl, the shared library and a test of a floor link: the floor and all below, top first
below     = $(if $(filter $1,$(firstword $2)),$1,$(call below,$1,$(wordlist 2,99,$2)) $(firstword $2))
archives  = $(patsubst %,$B/libkn_%.a,$(call below,$1,$(FLOORS)))
packages  = $(foreach f,$(call below,$1,$(FLOORS)),$(PKGS_$f))

WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
CFLAGS   ?= -O2 -g
KN_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread $(WARN) -Isrc -I$B -DKNBL_VERSION='"$(VERSION)"' \
            $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)) \
            $(shell pkg-config --cflags $(sort $(foreach f,$(FLOORS),$(PKGS_$f))))
libs_of   = $(shell pkg-config --libs $(sort $(call packages,$1))) -pthread -lm
static_of = $(foreach l,$(call libs_of,$1),$(if $(filter $(STATIC:%=-l%),$l),$(l:-l%=-l:lib%.a),$l))
KN_LDFLAGS = $(if $(SAN),-fsanitize=$(SAN)) -Wl,--as-needed -Wl,-z,relro,-z,now

KNBL     := $(if $(filter build,$B),knbl,$B/knbl)
.PHONY: all run test check bench install uninstall clean deps lint
all: deps-check $(KNBL) $B/libknbl.so $B/knbl.so

include tests/tests.mk

# ---- archives ------------------------------------------------------------------------------------------------------
define floor
OBJ_$1 := $$(patsubst src/%.c,$B/%.o,$$(wildcard src/$1/*.c))
$B/libkn_$1.a: $$(OBJ_$1)
	@rm -f $$@ && ar rcs $$@ $$(OBJ_$1)
endef
$(foreach f,$(FLOORS) abi,$(eval $(call floor,$f)))

$B/%.o: src/%.c Makefile
	@mkdir -p $(@D) && echo "  CC   $<"
	$(Q)$(CC) $(KN_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- the Lua library and the scenarios, embedded ------------------------------------------------------------------
EMBED    := $(sort $(wildcard lua/*.lua lua/*/*.lua lua/*/*/*.lua scenarios/*.lua))
$B/embed.S: $(EMBED) src/lua/embed.sh Makefile
	@mkdir -p $(@D)
	@sh src/lua/embed.sh $(EMBED) >$@
$B/embed.o: $B/embed.S $(EMBED)
	$(Q)$(CC) -c -o $@ $<

# ---- products ------------------------------------------------------------------------------------------------------
# all of Lua's API stays visible, for the C modules that a script may load
$(KNBL): $B/main.o $B/embed.o $(call archives,lua)
	@echo "  LINK $@"
	$(Q)$(CC) $(KN_LDFLAGS) -rdynamic -o $@ $B/main.o $B/embed.o -Wl,--start-group $(call archives,lua) -Wl,--end-group \
	    -Wl,--whole-archive -l:liblua5.4.a -Wl,--no-whole-archive -Wl,--exclude-libs,libsodium.a $(filter-out -l:liblua5.4.a,$(call static_of,lua))
# the engines for everyone: only what knbl.h names is visible
$B/libknbl.so: $B/libkn_abi.a $(call archives,agent) src/abi/libknbl.map
	@echo "  LINK $@"
	$(Q)$(CC) $(KN_LDFLAGS) -shared -Wl,-soname,libknbl.so.0 -Wl,--version-script=src/abi/libknbl.map -o $@ \
	    -Wl,--whole-archive $B/libkn_abi.a -Wl,--no-whole-archive $(call archives,agent) $(call libs_of,agent)
	@ln -sf libknbl.so $@.0
# the modules for a stock lua5.4: require "knbl"; Lua itself is the program's
$B/knbl.so: $B/embed.o $(call archives,lua)
	@echo "  LINK $@"
	$(Q)$(CC) $(KN_LDFLAGS) -shared -o $@ $B/embed.o -Wl,--whole-archive $B/libkn_lua.a -Wl,--no-whole-archive \
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

# ---- installation ----------------------------------------------------------------------------------------------------
LIBDIR   ?= $(PREFIX)/lib
LUADIR   := $(PREFIX)/share/lua/5.4
LUALIBDIR := $(PREFIX)/lib/lua/5.4
PUT      := install -D -m
$B/knbl.1: $(KNBL) docs/man.lua $(EMBED)
	./$(KNBL) docs/man.lua >$@.new && mv $@.new $@
$B/knbl.pc: Makefile
	@printf 'Name: knbl\nDescription: %s\nVersion: %s\nRequires.private: %s\nLibs: -L%s -lknbl\nCflags: -I%s\n' \
	    "The engines of knbl: network measurements over one port" "$(VERSION)" "$(sort $(call packages,agent))" "$(LIBDIR)" "$(PREFIX)/include" >$@

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
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,bin/knbl include/knbl.h share/man/man1/knbl.1 share/bash-completion/completions/knbl \
	    share/zsh/site-functions/_knbl share/fish/vendor_completions.d/knbl.fish) $(DESTDIR)$(LUALIBDIR)/knbl.so
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libknbl.so.$(VERSION) libknbl.so.0 libknbl.so pkgconfig/knbl.pc)
	rm -rf $(DESTDIR)$(LUADIR)/knbl $(DESTDIR)$(PREFIX)/share/lua/5.1/knbl

# ---- the agent's image, and the tests on a real cluster ------------------------------------------------------------------
# e2e runs on the cluster that KUBECONFIG names; E2E_LOAD is a command that takes the archive's name: "kind load image-archive"
IMAGE    ?= $B/knbl-$(VERSION).tar
.PHONY: image e2e
image: $(KNBL)
	./$(KNBL) image save $(IMAGE)
e2e: all image $B/tests/kube/https.so
	$(if $(E2E_LOAD),$(E2E_LOAD) $(IMAGE))
	@rm -f $B/e2e-peers.txt; B=$B KNBL=./$(KNBL) TEST_TIMEOUT=600 tests/run $(wildcard tests/kube/*_e2e.lua); code=$$?; \
	    cat $B/e2e-peers.txt 2>/dev/null; exit $$code

# ---- checks without running ----------------------------------------------------------------------------------------------
lua/knbl/cdef.lua: src/knbl.h src/abi/cdef.sh
	sh src/abi/cdef.sh src/knbl.h >$@
lint:
	luacheck -q lua scenarios tests docs

clean:
	rm -rf build knbl

-include $(shell find $B -name '*.d' 2>/dev/null)
