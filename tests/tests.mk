# Tests. Every one is a program that prints TAP; tests/run runs them, counts, and prints the total.
#   tests/unit/FLOOR/NAME_test.c   C (cmocka), linked with that floor and those below it only
#   tests/lua/NAME_test.lua        Lua (luaunit), run by ./knbl
#   tests/net|lab|cli|kube|ffi/*   programs and scripts with namespaces or processes of their own; executable files
#   tests/fuzz/NAME_fuzz.c         libFuzzer targets; their corpora in tests/fuzz/corpus/NAME

UNIT := $(patsubst tests/unit/%.c,$B/tests/%,$(wildcard tests/unit/*/*_test.c))
define unit_test
$B/tests/$1/%_test: tests/unit/$1/%_test.c $$(call archives,$1)
	@mkdir -p $$(@D)
	$$(CC) $$(KN_CFLAGS) $$(CFLAGS) -MMD -MP -MF $$@.d -o $$@ $$< -Wl,--start-group $$(call archives,$1) -Wl,--end-group \
	    $$(KN_LDFLAGS) -lcmocka -pthread -lm $$(shell pkg-config --libs $$(sort $$(call packages,$1)))
endef
$(foreach f,$(FLOORS),$(eval $(call unit_test,$f)))

LUA_TESTS  := $(wildcard tests/lua/*_test.lua)
# as an ordinary user or root; quick
QUICK      := $(UNIT) $(LUA_TESTS) $(wildcard tests/cli/*_test.lua tests/lab/*_test.lua)
# slower, or in need of root
SLOW       := $(wildcard tests/net/*_test.lua tests/lab/slow/*_test.lua tests/ffi/*_test.sh)

.PHONY: test-unit
test-unit: $(UNIT)
	@B=$B tests/run $(UNIT)
test:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory test-quick
test-quick: all $(UNIT)
	@B=$B KNBL=./$(KNBL) tests/run $(QUICK)
