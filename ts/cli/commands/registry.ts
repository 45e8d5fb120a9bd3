/** `caisson registry serve`: becomes the registry, in this process. */
import { flagsHelp, serve } from '../../registry/server/main.ts';
import { ExitCode } from '../failure.ts';

const USAGE = 'Usage:  caisson registry serve [OPTIONS]';

async function run(argv: string[]): Promise<number> {
  const [verb, ...flags] = argv;
  if (verb === 'help' || argv.includes('--help') || argv.includes('-h')) return printHelp();
  if (verb !== 'serve')
    throw new ExitCode(
      1,
      `caisson: ${verb === undefined ? 'a verb is missing' : `unknown verb '${verb}'`}\n\n${USAGE}`,
    );
  return serve(flags);
}

function printHelp(): number {
  process.stdout.write(`${USAGE}

Serve a container registry (OCI distribution specification 1.1)

Options:
${flagsHelp()}

Examples:
  caisson registry serve
  caisson registry serve --listen 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --htpasswd /etc/caisson/users
  caisson registry serve --upstream docker.io --upstream ghcr.io

A file for --config:
  { "htpasswd": "/etc/caisson/users", "tokens": true,
    "rights": [{ "users": ["ci"], "repositories": ["ci/**"], "actions": ["pull", "push"] },
               { "users": ["anonymous", "*"], "repositories": ["public/**"], "actions": ["pull"] }],
    "retention": [{ "repositories": ["ci/**"], "keepTags": 20, "untaggedTtl": "7d" }] }
`);
  return 0;
}

export default { run };
