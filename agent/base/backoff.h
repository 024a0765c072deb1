/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Pauses between attempts: exponential backoff with full jitter. The bound doubles with each
 * attempt, the pause is anything up to it: twenty sites that lost the same thing at the same moment
 * must not come back at the same moment, nor in waves (which a jitter of some percent leaves).
 */
#ifndef CHP_BASE_BACKOFF_H
#define CHP_BASE_BACKOFF_H

#include <stdint.h>

struct chp_backoff {
    uint64_t floor_ms; /* never sooner */
    uint64_t first_ms; /* bound of the first pause */
    uint64_t max_ms;   /* of every pause */
    uint64_t random;   /* state of the jitter */
    unsigned attempts; /* since the last reset */
};

/* floor_ms <= first_ms <= max_ms. The seed must be another one in each process and for each thing
 * that is retried: from chp_random, or derived from one of the process. */
void chp_backoff_init(struct chp_backoff *backoff, uint64_t floor_ms, uint64_t first_ms,
                      uint64_t max_ms, uint64_t seed);
/* The next pause. */
uint64_t chp_backoff_next_ms(struct chp_backoff *backoff);
/* It worked, and for long enough that a loop of success and failure is not hot. */
void chp_backoff_reset(struct chp_backoff *backoff);

#endif
