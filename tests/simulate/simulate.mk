# The simulator: the server's real code in a world whose clock, wires, log and backend are made up.

SIM_SRC := $(wildcard tests/simulate/*.c)
SIM_PROGRAMS := $(BUILD)/simulate

# The seams: calls that end in tests/simulate/net.c in place of the kernel, and two of the
# scheduler's that are looked at.
SIM_SEAMS := read write poll accept4 shutdown close socket bind listen connect getsockname \
             setsockopt open tcgetattr tcsetattr signalfd sigprocmask getrandom clock_ns \
             scheduler_hold scheduler_next_event

$(BUILD)/simulate: $(call debug_objects,$(SIM_SRC)) $(BUILD)/obj/debug/libwick.a
	$(call say,LD,$@)
	$(Q)$(GNU_CC) -fsanitize=address,undefined $(SIM_SEAMS:%=-Wl,--wrap=%) $^ -lpthread $(LDLIBS) -o $@

# SEED: where to begin (drawn when not given); STEPS: turns of the main loop.
STEPS ?= 100000

.PHONY: simulate
simulate: $(BUILD)/simulate ## live through simulated weather: SEED= (drawn) STEPS= (100000)
	$(Q)BUILD=$(BUILD) tests/simulate/run.sh "$(SEED)" $(STEPS)

.PHONY: simulate-mutants
simulate-mutants: $(BUILD)/simulate ## break wick in many places, one at a time; the simulator must notice each
	$(Q)BUILD=$(BUILD) CC="$(GNU_CC)" CFLAGS="$(CFLAGS_SANITIZE)" \
	    LINK="$(SIM_SEAMS:%=-Wl,--wrap=%) $(call debug_objects,$(SIM_SRC)) $(BUILD)/obj/debug/libwick.a -lpthread $(LDLIBS)" \
	    tests/simulate/mutants.sh
