/** May an image be pulled? What the signature policy asks of it, before any of its layers is fetched. */
import { CaissonError } from '../../../errdefs.ts';
import { type Reference, referenceString, withDefaultTag } from '../../../reference.ts';
import type { Repository, ResolvedImage } from '../../../registry/client/repository.ts';
import { type Evidence, findSignatures } from './find.ts';
import { SignaturePolicy, type SigstoreSigned } from './policy.ts';

/** What is asked of one image. */
export class SignatureGate {
  readonly #image: Reference;
  readonly #policy: string;
  readonly #place: string;
  readonly #required: SigstoreSigned[] = [];

  private constructor(image: Reference, policy: string, place: string) {
    this.#image = image;
    this.#policy = policy;
    this.#place = place;
  }

  /** `path`: of the policy. Kind InvalidParameter when it is wrong, Forbidden when it rejects the image. */
  static async open(path: string, reference: Reference): Promise<SignatureGate> {
    const { place, requirements } = (await SignaturePolicy.read(path)).requirements(reference);
    const gate = new SignatureGate(withDefaultTag(reference), path, place);
    for (const requirement of requirements) {
      if (requirement.type === 'reject') throw gate.#refused('the policy rejects it');
      if (requirement.type === 'sigstoreSigned') gate.#required.push(requirement);
    }
    return gate;
  }

  /**
   * All requirements must be met; a signature of the manifest counts, or of the index that names it. Kind Forbidden, naming
   * image, policy and cause; what the registry says where it does not tell its signatures.
   */
  async check(source: Repository, { digest, manifestDigest }: ResolvedImage, signal: AbortSignal): Promise<void> {
    if (this.#required.length === 0) return;
    const digests = [...new Set([manifestDigest, digest])];
    const found = await findSignatures(source, digests, signal);
    if (found.length === 0) throw this.#refused('it has no signature');
    for (const requirement of this.#required) await this.#meet(requirement, found, digests);
  }

  async #meet(requirement: SigstoreSigned, found: Evidence[], digests: string[]): Promise<void> {
    // Its libraries are large, and most daemons have no policy.
    const { signatureProblem } = await import('./verify.ts');
    const problems: string[] = [];
    for (const evidence of found) {
      const problem = signatureProblem(evidence, requirement, this.#image, digests);
      if (problem === undefined) return;
      problems.push(`${evidence.where}: ${problem}`);
    }
    throw this.#refused(`none of its signatures is accepted: ${problems.slice(0, 5).join('; ')}`);
  }

  #refused(cause: string): CaissonError {
    const name = referenceString(this.#image);
    return new CaissonError('Forbidden', `${name} may not be pulled (${this.#policy}, ${this.#place}): ${cause}`, {
      code: 'SIGNATURE_REFUSED',
      hint: `let its publisher sign it, or change the policy ${this.#policy}`,
    });
  }
}
