/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any text: parses or says where it does not; what parses prints to a text that parses to the same
 * text. */
#include "scope/scope.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const known[] = {"Nantes", "Rennes", "Paris", "A", "B"};
    const struct chp_scope_sites sites = {.self = "Nantes", .known = known, .known_count = 5};
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_scope *scope;
    const char **members;
    size_t member_count;
    if (chp_scope_parse(chp_arena_strndup(&arena, data, size), &arena, &scope, &error) != 0) {
        CHP_ASSERT(scope == NULL && error.text[0] != '\0' && error.code < 0);
    } else {
        char *printed = chp_scope_print(scope, &arena);
        struct chp_scope *again;
        CHP_ASSERT(chp_scope_parse(printed, &arena, &again, &error) == 0);
        CHP_ASSERT(strcmp(chp_scope_print(again, &arena), printed) == 0);
        if (chp_scope_resolve(scope, &sites, &arena, &members, &member_count, &error) == 0) {
            CHP_ASSERT(member_count >= 1 && member_count <= sites.known_count);
        } else {
            CHP_ASSERT(error.text[0] != '\0');
        }
    }
    chp_arena_deinit(&arena);
    return 0;
}
