# wick beside llama.cpp. What is installed for that stays below build/bench.

BENCH_DIR := $(BUILD)/bench
$(BENCH_DIR)/node_modules/.package-lock.json: tests/bench/package.json tests/bench/package-lock.json
	$(call say,NPM,$(@D))
	$(Q)command -v npm >/dev/null || { echo "npm is missing; run: apt-get install npm"; exit 1; }
	@mkdir -p $(BENCH_DIR)
	$(Q)cp $^ $(BENCH_DIR)/
	$(Q)cd $(BENCH_DIR) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >npm.log 2>&1 || \
	    { cat npm.log; exit 1; }
	@touch $@

$(BENCH_DIR)/peer: tests/bench/peer.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(GNU_CC) -std=c11 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE $< -o $@ -ldl

# MODELS: files, or shapes like 1B/Q8_0; all of them take hours.
.PHONY: bench-peer
bench-peer: all $(BENCH_DIR)/peer $(BENCH_DIR)/node_modules/.package-lock.json ## measure wick and llama.cpp in turns: MODELS= ROUNDS=3
	$(Q)BUILD=$(BUILD) tests/bench/peer.py --rounds $(or $(ROUNDS),3) --json $(BENCH_DIR)/peer.json $(MODELS)
