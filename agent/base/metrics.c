/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/metrics.h"

static void add_label(struct chp_buf *out, const char *value)
{
    for (const char *c = value; *c != 0; c++) {
        if (*c == '\\' || *c == '"') {
            chp_buf_add_byte(out, '\\');
        }
        chp_buf_add_byte(out, (uint8_t)*c);
    }
}

static void render_one(struct chp_buf *out, const char *site, const char *name, const char *type,
                       const char *help, double value)
{
    chp_buf_printf(out, "# HELP cheops_%s %s\n# TYPE cheops_%s %s\ncheops_%s{site=\"", name, help,
                   name, type, name);
    add_label(out, site);
    chp_buf_printf(out, "\"} %.17g\n", value);
}

void chp_metrics_render(const struct chp_metrics *metrics, const char *site, struct chp_buf *out)
{
#define X(name, type, help) render_one(out, site, #name, #type, help, metrics->name);
    CHP_METRICS(X)
#undef X
}
