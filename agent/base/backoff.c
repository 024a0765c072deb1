/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/backoff.h"

#include "base/err.h"

/* The bound is not computed by shifting: a shift by the number of attempts would overflow. */
static uint64_t bound_ms(const struct chp_backoff *backoff)
{
    uint64_t bound = backoff->first_ms;
    for (unsigned i = 0; i < backoff->attempts && bound < backoff->max_ms; i++) {
        bound = bound > backoff->max_ms / 2 ? backoff->max_ms : bound * 2;
    }
    return bound;
}

/* splitmix64 */
static uint64_t next_random(struct chp_backoff *backoff)
{
    uint64_t x = (backoff->random += 0x9e3779b97f4a7c15U);

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

void chp_backoff_init(struct chp_backoff *backoff, uint64_t floor_ms, uint64_t first_ms,
                      uint64_t max_ms, uint64_t seed)
{
    CHP_ASSERT(floor_ms <= first_ms);
    CHP_ASSERT(first_ms <= max_ms);
    CHP_ASSERT(first_ms > 0);
    *backoff = (struct chp_backoff){
        .floor_ms = floor_ms, .first_ms = first_ms, .max_ms = max_ms, .random = seed};
}

uint64_t chp_backoff_next_ms(struct chp_backoff *backoff)
{
    CHP_ASSERT(backoff->first_ms > 0);
    uint64_t span_ms = bound_ms(backoff) - backoff->floor_ms;
    backoff->attempts++;
    return backoff->floor_ms + next_random(backoff) % (span_ms + 1);
}

void chp_backoff_reset(struct chp_backoff *backoff)
{
    backoff->attempts = 0;
}
