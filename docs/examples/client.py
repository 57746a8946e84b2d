#!/usr/bin/env python3
"""client.py HOST PORT PROMPT [field=value ...]; $WICK_KEY: the key, where a login is asked for"""
import hashlib, hmac, os, re, secrets, socket, sys
REPLY = re.compile(r'^([1-5]\d\d)([ -])(-|\d+)(?: (.*))?$')
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
ESCAPE = re.compile(rb'\\(x..|.)')
PLAIN = {b'n': b'\n', b'r': b'\r', b't': b'\t', b'"': b'"', b'\\': b'\\'}

def quote(data):
    return '"' + ''.join(chr(b) if 32 <= b < 127 and b not in b'"\\' else '\\x%02x' % b for b in data) + '"'

def unquote(text):
    return ESCAPE.sub(lambda m: bytes([int(m[1][1:], 16)]) if m[1][:1] == b'x' else PLAIN[m[1]], text.encode())

def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256)

class Wick:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port))
        self.lines = self.socket.makefile(encoding='ascii', newline='\n')
        self.keys = self.counts = None
        greeting = self.receive()[3]
        if ' nonce=' in greeting:
            self.log_in(bytes.fromhex(os.environ['WICK_KEY']), greeting.split(' nonce=')[1])

    def log_in(self, key, server_nonce):
        nonces = server_nonce + ' ' + secrets.token_hex(16)
        proof = mac(key, 'wick1 client hello ' + nonces).hexdigest()
        self.send('HELLO proto=1 nonce=%s mac=%s' % (nonces.split()[1], proof))
        code, _, _, rest = self.receive()
        role, theirs = re.findall(r'login=(\w+) mac=(\w+)', rest)[0] if code == '220' else sys.exit(rest)
        if not hmac.compare_digest(theirs, mac(key, 'wick1 server hello %s %s' % (role, nonces)).hexdigest()):
            sys.exit('the server does not know the key')
        self.keys = {side: mac(key, 'wick1 %s lines %s' % (side, nonces)).digest() for side in ('client', 'server')}
        self.counts = dict.fromkeys(self.keys, 0)

    def trailer(self, side, line):
        self.counts[side] += 1
        return ' #' + mac(self.keys[side], '%d %s' % (self.counts[side] - 1, line)).hexdigest()[:32]

    def send(self, line):
        self.socket.sendall((line + (self.trailer('client', line) if self.keys else '') + '\n').encode())

    def receive(self):
        line = self.lines.readline().rstrip('\r\n') or sys.exit('the connection is closed')
        if self.keys and line != (line := line[:-34]) + self.trailer('server', line):
            sys.exit('a line was changed on its way')
        return REPLY.match(line).groups()

wick, prompt, at = Wick(sys.argv[1], int(sys.argv[2])), os.fsencode(sys.argv[3]), 0
while at < len(prompt):                              # at most 4 characters a byte: 960 of 1024
    wick.send('PUT 1 ' + quote(prompt[at:at + 240]))
    while (reply := wick.receive())[0] < '200': pass  # progress while loading
    at = at + 240 if reply[0] == '210' else sys.exit(reply[3])
wick.send(' '.join(['RUN 1'] + sys.argv[4:]))
while (reply := wick.receive())[2] != '1' or reply[0] < '200':
    if reply[0] == '151':
        print(unquote(TEXT.search(reply[3])[1]).decode(errors='replace'), end='', flush=True)
print() if reply[0] == '250' else sys.exit(reply[3])
