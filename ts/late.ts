/**
 * Modules of Node's, loaded by who needs them first: for servers that idle. An import of `node:http` reads each of its
 * exports, and with one of them, WebSocket, comes 3 MB of a client; `node:https` takes as much for TLS, `node:crypto` half of it.
 */
import type * as Crypto from 'node:crypto';
import type * as Http from 'node:http';
import type * as Https from 'node:https';

export const crypto = (): typeof Crypto => process.getBuiltinModule('node:crypto');
export const http = (): typeof Http => process.getBuiltinModule('node:http');
export const https = (): typeof Https => process.getBuiltinModule('node:https');
