/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/clock.h"

#include "base/err.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

static struct timespec read_clock(clockid_t id)
{
    struct timespec now;
    CHP_ASSERT(clock_gettime(id, &now) == 0);
    return now;
}

uint64_t chp_clock_wall_ms(void)
{
    struct timespec now = read_clock(CLOCK_REALTIME);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t chp_clock_mono_us(void)
{
    struct timespec now = read_clock(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t chp_clock_mono_ms(void)
{
    return chp_clock_mono_us() / 1000;
}

void chp_random(void *memory, size_t size)
{
    CHP_ASSERT(size <= 256); /* up to which getrandom is never cut short */
    CHP_ASSERT(getrandom(memory, size, 0) == (ssize_t)size);
}

void chp_clock_format(uint64_t wall_ms, char text[CHP_TIME_TEXT_BYTES])
{
    /* Year 9999 is the last that four digits hold. */
    const uint64_t last_ms = 253402300799999u;
    if (wall_ms > last_ms) {
        wall_ms = last_ms;
    }
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    CHP_ASSERT(gmtime_r(&seconds, &parts) != NULL);
    size_t len = strftime(text, CHP_TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    CHP_ASSERT(len == 19);
    (void)snprintf(text + len, CHP_TIME_TEXT_BYTES - len, ".%03uZ", (unsigned)(wall_ms % 1000));
}
