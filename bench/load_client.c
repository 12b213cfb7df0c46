/* N WebSocket clients in one process that read and discard; the far end of bench/proxy.py.
 *
 *   load_client SHARED HOST PORT CLIENTS PATH [EXTRA-HEADER…]
 *
 * Frames are parsed far enough to know where they end, payloads are dropped by the kernel (MSG_TRUNC), so the
 * client is not what is measured. The k-th data frame of a connection is message k.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "fanout.h"

struct client {
    int fd;
    uint32_t frames;     /* data frames complete */
    uint64_t skip;       /* payload bytes of the present frame still to come */
    uint8_t header[10];
    uint8_t have;        /* header bytes so far */
    uint8_t data;        /* the present frame is a data frame */
    uint8_t control[4];
};

static struct fanout *shared;
static uint32_t *complete; /* per message: clients that have it */
static uint64_t clients_total;

static void message_done(struct client *c) {
    uint32_t k = c->frames++;
    shared->deliveries++;
    if (k >= FANOUT_SLOTS) return;
    if (++complete[k] == clients_total) {
        shared->last_ns[k] = now_ns();
        __atomic_store_n(&shared->completed, k + 1, __ATOMIC_RELEASE);
    }
}

/* Read what there is; -1 when the connection is gone. */
static int drain(struct client *c) {
    static char sink[1 << 16];
    for (int rounds = 0; rounds < 64; rounds++) {
        if (c->skip) {
            size_t want = c->skip > (1u << 22) ? (1u << 22) : c->skip;
            ssize_t n = recv(c->fd, sink, want, MSG_TRUNC | MSG_DONTWAIT);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            c->skip -= (uint64_t)n;
            if (c->skip) continue;
            if (c->data) message_done(c);
            c->have = 0;
            continue;
        }
        size_t need = c->have < 2 ? 2 : (c->header[1] & 127) == 126 ? 4 : (c->header[1] & 127) == 127 ? 10 : 2;
        if (c->have < need) {
            ssize_t n = recv(c->fd, c->header + c->have, need - c->have, MSG_DONTWAIT);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            c->have += (uint8_t)n;
            continue;
        }
        uint64_t length = c->header[1] & 127;
        if (length == 126) length = ((uint64_t)c->header[2] << 8) | c->header[3];
        else if (length == 127) { length = 0; for (int i = 2; i < 10; i++) length = length << 8 | c->header[i]; }
        c->data = !(c->header[0] & 8);
        if ((c->header[0] & 15) == 8) return -1;
        c->skip = length;
        if (!length) { if (c->data) message_done(c); c->have = 0; }
    }
    return 0;
}

static int handshake(struct sockaddr_in *address, const char *path, char **extra, int extras) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (struct sockaddr *)address, sizeof *address) < 0) { perror("connect"); exit(1); }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char text[4096];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n", path);
    for (int i = 0; i < extras; i++) n += snprintf(text + n, sizeof text - n, "%s\r\n", extra[i]);
    n += snprintf(text + n, sizeof text - n, "\r\n");
    if (send(fd, text, n, 0) != n) { perror("send"); exit(1); }
    for (n = 0;; n++) { /* a byte at a time: frames may follow in the same segment */
        if (n >= (int)sizeof text - 1 || recv(fd, text + n, 1, 0) != 1) { fprintf(stderr, "no answer\n"); exit(1); }
        text[n + 1] = 0;
        if (n >= 3 && !memcmp(text + n - 3, "\r\n\r\n", 4)) break;
    }
    if (strncmp(text, "HTTP/1.1 101", 12)) { fprintf(stderr, "%.60s\n", text); exit(1); }
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 6) { fprintf(stderr, "usage: load_client SHARED HOST PORT CLIENTS PATH [HEADER…]\n"); return 2; }
    shared = fanout_map(argv[1]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3]))};
    inet_pton(AF_INET, argv[2], &address.sin_addr);
    clients_total = strtoull(argv[4], NULL, 10);
    complete = calloc(FANOUT_SLOTS, sizeof *complete);
    struct client *clients = calloc(clients_total, sizeof *clients);
    int poll = epoll_create1(0);
    for (uint64_t i = 0; i < clients_total; i++) {
        clients[i].fd = handshake(&address, argv[5], argv + 6, argc - 6);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, clients[i].fd, &event);
        __atomic_store_n(&shared->connected, i + 1, __ATOMIC_RELEASE);
    }
    struct epoll_event events[512];
    while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
        int n = epoll_wait(poll, events, 512, 50);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (drain(c) < 0) {
                epoll_ctl(poll, EPOLL_CTL_DEL, c->fd, NULL);
                close(c->fd);
                shared->lost++;
            }
        }
    }
    return 0;
}
