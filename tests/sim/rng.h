/* SPDX-License-Identifier: AGPL-3.0-only */
/* Random numbers of a seed (splitmix64): the same on every machine. */
#ifndef CHP_TESTS_SIM_RNG_H
#define CHP_TESTS_SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct sim_rng {
    uint64_t state;
};

static inline uint64_t sim_rng_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

static inline uint64_t sim_rng_next(struct sim_rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15;
    return sim_rng_mix(rng->state);
}

/* A generator of its own for a part of the run: what other parts draw does not change it. */
static inline struct sim_rng sim_rng_of(uint64_t seed, uint64_t part)
{
    return (struct sim_rng){sim_rng_mix(seed) ^ sim_rng_mix(part * 0x9e3779b97f4a7c15 + 1)};
}

/* from..to, both included. */
static inline uint64_t sim_rng_between(struct sim_rng *rng, uint64_t from, uint64_t to)
{
    return from + sim_rng_next(rng) % (to - from + 1);
}

static inline bool sim_rng_chance(struct sim_rng *rng, unsigned percent)
{
    return sim_rng_next(rng) % 100 < percent;
}

#endif
