/* SPDX-License-Identifier: AGPL-3.0-only */
/* The machine's clocks and its randomness. Only the daemon and the adapters call these; the engine
 * gets time in its events. */
#ifndef CHP_BASE_CLOCK_H
#define CHP_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Unix time in milliseconds. */
uint64_t chp_clock_wall_ms(void);
/* Monotonic, from an arbitrary start. */
uint64_t chp_clock_mono_ms(void);
uint64_t chp_clock_mono_us(void);
/* Fills memory from the kernel's generator; aborts if there is none. */
void chp_random(void *memory, size_t size);

enum { CHP_TIME_TEXT_BYTES = 25 };
/* RFC 3339 in UTC with milliseconds: 2026-11-24T03:32:03.123Z */
void chp_clock_format(uint64_t wall_ms, char text[CHP_TIME_TEXT_BYTES]);

#endif
