/** Names of containers: what is allowed, and a friendly one for a container that was given none. */
import { randomInt } from 'node:crypto';
import { CaissonError } from '../../errdefs.ts';

const ALLOWED = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** Docker's rule and text. A leading slash is Docker's own way to write a name. */
export function checkName(name: string): string {
  const plain = name.startsWith('/') ? name.slice(1) : name;
  if (!ALLOWED.test(plain)) {
    throw new CaissonError(
      'InvalidParameter',
      `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  }
  return plain;
}

const MOODS = (
  'agile amber ample apt balmy bold brave breezy bright brisk calm candid cheery civil clear clever cosy crisp curious ' +
  'deft eager earnest easy fair fast fine firm fleet fond frank free fresh gentle glad golden good grand handy happy ' +
  'hardy hearty honest humble jolly keen kind lively loyal lucky mellow merry mighty mild modest neat nimble noble ' +
  'patient placid plucky polite prime proud quick quiet ready robust rosy rapid serene sharp silent smart snug solid ' +
  'sound spry steady stout sunny sure swift tidy tough trusty upbeat vivid warm wise witty zesty'
).split(' ');

/** What one meets at sea and below it. */
const THINGS = (
  'albatross anchor anemone atoll barnacle barge bay beacon bollard bowline breaker buoy cape capstan channel clam cliff ' +
  'compass coral cove crab current cutter dinghy diver dock dolphin drift dune eel estuary ferry fjord galley gannet gull ' +
  'gulf harbour heron herring hull islet jetty kayak keel kelp kraken lagoon lantern ledge lighthouse lobster manta mast ' +
  'mooring mussel narwhal nautilus oar octopus orca otter oyster paddle pearl pelican pier plankton porpoise puffin quay ' +
  'raft reef rudder sail salmon sandbar schooner seal shoal shore skiff sloop sonar squid starfish sturgeon surf tern tide ' +
  'trawler trident tugboat turtle urchin voyage walrus wave whale wharf yawl'
).split(' ');

const pick = (words: string[]): string => words[randomInt(words.length)] as string;

export function generateName(isTaken: (name: string) => boolean): string {
  for (let attempt = 0; ; attempt++) {
    const name = `${pick(MOODS)}_${pick(THINGS)}${attempt < 6 ? '' : randomInt(10 ** Math.min(attempt - 4, 9))}`;
    if (!isTaken(name)) return name;
  }
}
