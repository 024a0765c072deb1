/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What is forgotten for its age: idempotency keys and replies that nobody took after 7 days (design
 * 4.1), events that were published after a configured time. A few at a time, by age as the trusted
 * clock says, and only when that clock has gone steadily for an hour: one that jumps ahead, or that
 * was wrong when the agent started, must be seen by a person or by NTP before it costs anything.
 * What was written while the clock was behind all others' seems older than it is when the clock has
 * been set right: then nothing is forgotten for as long as the longest of it is kept.
 */
#include "engine/internal.h"

enum {
    STEADY_S = 3600,
    PAUSE_S = 60, /* when there is nothing left to forget; else until the next tick */
};

static const uint64_t second_us = 1000 * 1000;

/* Whether the trusted clock has not jumped for long enough. */
static bool is_steady(struct chp_engine *engine, const struct chp_now *now, uint64_t wall_ms)
{
    uint64_t ahead_ms = wall_ms - now->mono_us / 1000; /* modulo 2^64: only differences count */
    uint64_t moved_ms = ahead_ms - engine->clock_ahead_ms;
    uint64_t skew_ms = engine->config.max_skew_ms;
    if (engine->steady_since_us == 0 || (moved_ms > skew_ms && moved_ms < UINT64_MAX - skew_ms)) {
        engine->steady_since_us = now->mono_us;
    }
    engine->clock_ahead_ms = ahead_ms;
    return now->mono_us - engine->steady_since_us >= STEADY_S * second_us;
}

/* Whether what is kept may have been written by a clock that was behind. */
static bool has_lagged(struct chp_engine *engine, const struct chp_now *now)
{
    uint64_t kept_ms = CHP_KEYS_KEPT_MS > engine->config.events_kept_ms
                           ? CHP_KEYS_KEPT_MS
                           : engine->config.events_kept_ms;
    if (engine__clock_lags(engine, now)) {
        engine->lagged_us = now->mono_us;
    }
    return engine->lagged_us != 0 && (now->mono_us - engine->lagged_us) / 1000 < kept_ms;
}

static uint64_t before(uint64_t wall_ms, uint64_t kept_ms)
{
    return wall_ms > kept_ms ? wall_ms - kept_ms : 0;
}

void forget__tick(struct chp_engine *engine, const struct chp_now *now, struct chp_effects *effects)
{
    uint64_t wall_ms = engine__trusted_wall_ms(engine, now);
    bool steady = is_steady(engine, now, wall_ms);
    bool lagged = has_lagged(engine, now);
    if (!steady || lagged || engine->forgetting || now->mono_us < engine->forget_us) {
        return;
    }
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_FORGET);
    write->forget.keys_before_ms = before(wall_ms, CHP_KEYS_KEPT_MS);
    write->forget.events_before_ms = before(wall_ms, engine->config.events_kept_ms);
    struct chp_load *load = chp_batch_load(&effects->batch, CHP_LOAD_OLDEST);
    load->forget = write->forget;
    engine->forgetting = true;
}

void forget__loaded(struct chp_engine *engine, const struct chp_load *load,
                    const struct chp_now *now)
{
    CHP_ASSERT(engine->forgetting);
    bool more = load->oldest.key_ms < load->forget.keys_before_ms ||
                load->oldest.reply_ms < load->forget.keys_before_ms ||
                load->oldest.event_ms < load->forget.events_before_ms;
    engine->forgetting = false;
    engine->forget_us = now->mono_us + (more ? 0 : PAUSE_S * second_us);
}
