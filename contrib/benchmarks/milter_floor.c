/* The limit for contrib/bench milter: what the floor does, in C.  Argument: the socket. */

#include <libmilter/mfapi.h>
#include <sysexits.h>

static sfsistat connected(SMFICTX *ctx, char *host, _SOCK_ADDR *address)
{
    (void)ctx, (void)host, (void)address;
    return SMFIS_CONTINUE;
}

static sfsistat end(SMFICTX *ctx)
{
    return smfi_addheader(ctx, "X-Floor", "floor") == MI_SUCCESS ? SMFIS_CONTINUE : SMFIS_TEMPFAIL;
}

static sfsistat negotiate(SMFICTX *ctx, unsigned long a, unsigned long b, unsigned long c,
                          unsigned long d, unsigned long *pa, unsigned long *pb,
                          unsigned long *pc, unsigned long *pd)
{
    (void)ctx, (void)a, (void)c, (void)d;
    *pa = SMFIF_ADDHDRS;
    *pb = b & (SMFIP_NOHELO | SMFIP_NOMAIL | SMFIP_NORCPT | SMFIP_NOBODY | SMFIP_NOHDRS
               | SMFIP_NOEOH | SMFIP_NOUNKNOWN | SMFIP_NODATA | SMFIP_NR_CONN);
    *pc = *pd = 0;
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = { .xxfi_name = "floor", .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFIF_ADDHDRS, .xxfi_connect = connected, .xxfi_eom = end,
        .xxfi_negotiate = negotiate };
    if (argc != 2 || smfi_setconn(argv[1]) || smfi_register(filter)) return EX_USAGE;
    return smfi_main();
}
