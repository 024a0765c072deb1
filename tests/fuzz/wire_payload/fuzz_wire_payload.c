/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any bytes as a payload: what decodes encodes to the same meaning; a summary is always one line of
 * UTF-8. */
#include "wire/payload.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_summary(const char *driver, struct chp_bytes payload, struct chp_arena *arena)
{
    char *summary = chp_payload_summary(driver, payload, arena);
    CHP_ASSERT(strlen(summary) <= 200);
    CHP_ASSERT(chp_utf8_valid(summary, strlen(summary)));
    CHP_ASSERT(strpbrk(summary, "\n\r\033") == NULL);
}

static void check_command(struct chp_bytes payload, struct chp_arena *arena)
{
    struct chp_command command;
    struct chp_command again;
    struct chp_buf out = {0};
    if (chp_command_decode(payload, arena, &command, NULL) == 0) {
        CHP_ASSERT(command.argc > 0 && command.argv[command.argc] == NULL);
        if (chp_command_encode(&command, &out, NULL) ==
            0) { /* may be bigger than a foreign encoding */
            CHP_ASSERT(chp_command_decode(chp_buf_bytes(&out), arena, &again, NULL) == 0);
            CHP_ASSERT(again.argc == command.argc);
        }
    }
    chp_buf_deinit(&out);
}

static void check_rest(struct chp_bytes payload, struct chp_arena *arena)
{
    struct chp_rest rest;
    struct chp_rest again;
    struct chp_buf out = {0};
    if (chp_rest_decode(payload, arena, &rest, NULL) == 0) {
        CHP_ASSERT(rest.path[0] != '/');
        for (size_t i = 0; i < rest.header_count; i++) {
            CHP_ASSERT(strpbrk(rest.headers[i], "\r\n") == NULL);
        }
        if (chp_rest_encode(&rest, &out, NULL) == 0) {
            CHP_ASSERT(chp_rest_decode(chp_buf_bytes(&out), arena, &again, NULL) == 0);
            CHP_ASSERT(strcmp(again.path, rest.path) == 0);
        }
    }
    chp_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_arena arena = {0};
    struct chp_bytes payload = chp_bytes(data, size);
    check_command(payload, &arena);
    check_rest(payload, &arena);
    check_summary("shell", payload, &arena);
    check_summary("http", payload, &arena);
    chp_arena_deinit(&arena);
    return 0;
}
