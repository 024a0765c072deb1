/* SPDX-License-Identifier: AGPL-3.0-only */
/* Messages that could not be processed. */
#include "cli/table.h"
#include "cli/views.h"

#include "base/mem.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { DUMP_BYTES_PER_LINE = 16, DUMP_MAX_BYTES = 1024 };

int cli__cmd_dead_list(struct cli *cli)
{
    json_t *list = NULL;
    int exit_code = cli__get(cli, &list, "/v1/dead");
    const json_t *dead = json_object_get(list, "dead");
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json_array(dead);
    } else if (exit_code == CLI_OK) {
        struct cli_table table;
        cli__table_init(&table, cli, "ID|AT|QUEUE|KEY|>BYTES|REASON");
        size_t i;
        json_t *letter;
        json_array_foreach(dead, i, letter)
        {
            cli__table_add(&table, cli__text(letter, "id"));
            cli__table_add(&table, cli__when(cli, cli__text(letter, "at")));
            cli__table_add(&table, cli__text(letter, "queue"));
            cli__table_add(&table, cli__text(letter, "routing_key"));
            cli__table_add(&table, cli__number(cli, letter, "body_bytes"));
            cli__table_add(&table, cli__text(letter, "reason"));
        }
        cli__table_print(&table);
    }
    json_decref(list);
    return exit_code;
}

/* Offsets, hexadecimal, and what of it is printable. */
static void print_dump(const uint8_t *data, size_t len)
{
    size_t shown = len < DUMP_MAX_BYTES ? len : DUMP_MAX_BYTES;
    for (size_t at = 0; at < shown; at += DUMP_BYTES_PER_LINE) {
        (void)printf("%06zx ", at);
        for (size_t i = at; i < at + DUMP_BYTES_PER_LINE; i++) {
            (void)(i < shown ? printf(" %02x", data[i]) : printf("   "));
        }
        (void)printf("  ");
        for (size_t i = at; i < at + DUMP_BYTES_PER_LINE && i < shown; i++) {
            (void)putchar(data[i] < 0x80 && isprint(data[i]) ? data[i] : '.');
        }
        (void)printf("\n");
    }
    if (shown < len) {
        (void)printf("… %zu more bytes; -o json has all as base64\n", len - shown);
    }
}

static void print_body(const char *base64)
{
    size_t len = base64 == NULL ? 0 : strlen(base64);
    if (len < 4 || len % 4 != 0 || len > INT32_MAX) {
        return;
    }
    uint8_t *data = chp_alloc(len);
    int decoded = EVP_DecodeBlock(data, (const unsigned char *)base64, (int)len);
    if (decoded > 0) {
        size_t padding = (base64[len - 1] == '=' ? 1 : 0) + (base64[len - 2] == '=' ? 1 : 0);
        (void)printf("\n");
        print_dump(data, (size_t)decoded - padding);
    }
    free(data);
}

int cli__cmd_dead_show(struct cli *cli)
{
    json_t *letter = NULL;
    int exit_code = cli__get(cli, &letter, "/v1/dead/%s", cli__url(cli, cli->args.operands[0]));
    if (exit_code == CLI_OK && cli->json) {
        cli__print_json(letter);
    } else if (exit_code == CLI_OK) {
        static const struct cli_field fields[] = {
            {"id", "id"},
            {"reason", "reason"},
            {"queue", "queue"},
            {"exchange", "exchange"},
            {"key", "routing_key"},
            {"message", "message_id"},
            {"bytes", "body_bytes"},
        };
        cli__view_fields(cli, letter, fields, sizeof fields / sizeof fields[0]);
        cli__view_line(cli, "at", cli__when(cli, cli__text(letter, "at")));
        print_body(cli__text(letter, "body_base64"));
    }
    json_decref(letter);
    return exit_code;
}

static int act(struct cli *cli, const char *method, const char *suffix, const char *said)
{
    const char *id = cli->args.operands[0];
    struct cli_request request = {
        .method = method,
        .path = chp_arena_printf(&cli->arena, "/v1/dead/%s%s", cli__url(cli, id), suffix)};
    json_t *answer = NULL;
    int exit_code = cli__call(cli, &request, &answer);
    if (exit_code == CLI_OK && cli->json && answer != NULL) {
        cli__print_json(answer);
    } else if (exit_code == CLI_OK && !cli->json) {
        (void)printf("%s %s\n", cli__clean(cli, id), said);
    }
    json_decref(answer);
    return exit_code;
}

int cli__cmd_dead_requeue(struct cli *cli)
{
    return act(cli, "POST", "/requeue", "is back in its queue");
}

int cli__cmd_dead_drop(struct cli *cli)
{
    return act(cli, "DELETE", "", "is gone");
}
