/* Load for contrib/bench: SOCKET CLIENT-IP CONNECTIONS MESSAGES [FILE].

   Each thread plays an MTA's process: connect, negotiate, one 3 KB message with 12 header fields,
   quit, again.  Steps that the filter does not want are not sent; for those it leaves unanswered
   nothing is waited for.  Prints messages, seconds and messages that failed.

   With a CLIENT-IP that ends in "+" each message comes from the next address, with "+COUNT" from
   the first again after so many.  FILE gets a line
   for each message that did not fail: when it began, in seconds from the start, and what it took,
   in microseconds. */

#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BODY = 3072, FIELDS = 12, LIMIT_S = 30 };

static struct sockaddr_un place = { .sun_family = AF_UNIX };
static const char *client;
static uint32_t first_client, clients, next_client;
static int left, failed;
static FILE *times;
static struct timespec began;
static char received[256];
static size_t received_size;

static double since(const struct timespec *then)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - then->tv_sec + (now.tv_nsec - then->tv_nsec) / 1e9;
}

struct wire { int fd; uint32_t steps; size_t used; char out[16384]; char in[4096]; };

static int flush(struct wire *w)
{
    size_t done = 0;
    while (done < w->used) {
        ssize_t n = send(w->fd, w->out + done, w->used - done, MSG_NOSIGNAL);
        if (n <= 0) return -1;
        done += n;
    }
    w->used = 0;
    return 0;
}

static void put(struct wire *w, char command, const void *data, size_t size)
{
    uint32_t length = htonl(size + 1);
    memcpy(w->out + w->used, &length, 4);
    w->out[w->used + 4] = command;
    memcpy(w->out + w->used + 5, data, size);
    w->used += size + 5;
}

static int all(struct wire *w, char *to, size_t size)
{
    for (size_t n = 0; n < size;) {
        ssize_t got = recv(w->fd, to + n, size - n, 0);
        if (got <= 0) return -1;
        n += got;
    }
    return 0;
}

/* The command of the next packet, -1 if there is none; its data is in w->in. */
static int answer(struct wire *w)
{
    uint32_t length;
    if (flush(w) || all(w, (char *)&length, 4)) return -1;
    length = ntohl(length);
    if (length < 1 || length > sizeof w->in || all(w, w->in, length)) return -1;
    return w->in[0];
}

static int step(struct wire *w, char command, uint32_t unwanted, uint32_t quiet,
                const void *data, size_t size)
{
    if (w->steps & unwanted) return 0;
    put(w, command, data, size);
    if (w->steps & quiet) return 0;
    int code = answer(w);
    return code == 'c' || code == 's' ? 0 : -1;
}

/* What a Postfix on the client's host wrote of this minute's mail. */
static void note_handover(void)
{
    time_t now = time(NULL);
    size_t n = sprintf(received, "Received%cfrom pc.example (pc.example [10.0.0.7])\n\tby "
                       "mail.example (Postfix) with ESMTP id 4F2Kq71LzM\n\tfor <c@d.example>;", 0);
    received_size = n + strftime(received + n, sizeof received - n, " %a, %d %b %Y %T +0000 (UTC)",
                                 gmtime(&now)) + 1;
}

static int headers(struct wire *w)
{
    if (step(w, 'L', 0x20, 0x80, received, received_size)) return -1;
    for (int i = 1; i < FIELDS; i++) {
        char field[256];
        int n = sprintf(field, "X-Field-%d%cthe value of an ordinary header field, some sixty long",
                        i, 0);
        if (step(w, 'L', 0x20, 0x80, field, n + 1)) return -1;
    }
    return 0;
}

static int message(struct wire *w)
{
    static char body[BODY];
    char where[128];
    char ip[INET_ADDRSTRLEN];
    struct in_addr address;
    if (first_client) {
        uint32_t number = __sync_fetch_and_add(&next_client, 1);
        address.s_addr = htonl(first_client + (clients ? number % clients : number));
        inet_ntop(AF_INET, &address, ip, sizeof ip);
    }
    int n = sprintf(where, "mail.example%c4%c%c%s", 0, 0x61, 0x62, first_client ? ip : client) + 1;
    uint32_t offer[3] = { htonl(6), htonl(0x1FF), htonl(0x1FFFFF) };
    put(w, 'O', offer, sizeof offer);
    if (answer(w) != 'O') return -1;
    memcpy(&w->steps, w->in + 9, 4);
    w->steps = ntohl(w->steps);
    put(w, 'D', "Cj\0mx.example", 14);
    if (step(w, 'C', 0x1, 0x1000, where, n)) return -1;
    if (step(w, 'H', 0x2, 0x2000, "mail.example", 13)) return -1;
    put(w, 'D', "Mi\0" "4QID", 8);
    if (step(w, 'M', 0x4, 0x4000, "<a@b.example>", 14)) return -1;
    if (step(w, 'R', 0x8, 0x8000, "<c@d.example>", 14)) return -1;
    if (step(w, 'T', 0x200, 0x10000, "", 0) || headers(w)) return -1;
    if (step(w, 'N', 0x40, 0x40000, "", 0)) return -1;
    if (step(w, 'B', 0x10, 0x80000, body, BODY)) return -1;
    put(w, 'E', "", 0);
    for (;;) {
        int code = answer(w);
        if (code == 'c' || code == 'a') return 0;
        if (code < 0 || !strchr("himp", code)) return -1;
    }
}

static int session(void)
{
    struct wire w = { .fd = socket(AF_UNIX, SOCK_STREAM, 0) };
    struct timeval limit = { .tv_sec = LIMIT_S };
    setsockopt(w.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int bad = connect(w.fd, (struct sockaddr *)&place, sizeof place) || message(&w);
    put(&w, 'Q', "", 0);
    flush(&w);
    close(w.fd);
    return bad;
}

static void *run(void *unused)
{
    while (__sync_fetch_and_sub(&left, 1) > 0) {
        double at = since(&began);
        if (session()) __sync_fetch_and_add(&failed, 1);
        else if (times) fprintf(times, "%.6f %.0f\n", at, (since(&began) - at) * 1e6);
    }
    return unused;
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6) return 64;
    if (argc == 6 && !(times = fopen(argv[5], "w"))) return 73;
    snprintf(place.sun_path, sizeof place.sun_path, "%s", argv[1]);
    client = argv[2];
    if (strchr(client, '+')) {
        char first[INET_ADDRSTRLEN] = "";
        struct in_addr address;
        strncat(first, client, strcspn(client, "+"));
        if (inet_pton(AF_INET, first, &address) != 1) return 64;
        first_client = ntohl(address.s_addr);
        clients = atoi(strchr(client, '+') + 1);
    }
    note_handover();
    int connections = atoi(argv[3]), messages = left = atoi(argv[4]);
    if (connections < 1 || connections > 1000) return 64;
    pthread_t threads[1000];
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int i = 0; i < connections; i++)
        if (pthread_create(&threads[i], NULL, run, NULL)) return 71;
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    printf("%d %.6f %d\n", messages, since(&began), failed);
    if (times && fclose(times)) return 74;
    return 0;
}
