/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any bytes as a configuration file: taken whole with what must be set, or refused with a sentence.
 */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_config config;
    struct chp_error error = {0};
    if (chp_config_parse(chp_bytes(data, size), "fuzz.conf", "/etc/cheops", &config, &error) == 0) {
        struct chp_arena arena = {0};
        struct chp_config_diff diff;
        CHP_ASSERT(config.agent.site != NULL && config.database.dsn != NULL);
        CHP_ASSERT(config.broker.uri != NULL);
        CHP_ASSERT(config.agent.down_after_ms >= 2 * config.agent.beat_interval_ms);
        chp_config_diff(&config, &config, &arena, &diff);
        CHP_ASSERT(diff.reload_count == 0 && diff.restart_count == 0);
        chp_arena_deinit(&arena);
    } else {
        CHP_ASSERT(error.code < 0 && strncmp(error.text, "fuzz.conf:", 10) == 0);
        CHP_ASSERT(config.arena.chunks == NULL);
    }
    chp_config_deinit(&config);
    return 0;
}
