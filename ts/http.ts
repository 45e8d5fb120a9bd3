/**
 * Node's HTTP, for servers that idle. An import of `node:http` reads each of its exports, and with one of them, WebSocket,
 * comes 3 MB of a client; `node:https` takes as much for TLS. A server that waits for its first request is not to have them.
 */
import type * as Http from 'node:http';
import type * as Https from 'node:https';

export const http = (): typeof Http => process.getBuiltinModule('node:http');
export const https = (): typeof Https => process.getBuiltinModule('node:https');
