// Asking the API. Addresses are relative, so that a proxy may serve the console under any path.

/** An error that says what to do: the API's problem details, or what the browser knows. */
export class Problem extends Error {
  constructor({ title, detail, hint, status, login, type, clusters }) {
    super(detail || title);
    Object.assign(this, { title, detail, hint, status, login, kind: (type ?? "").split("/").pop(), clusters });
  }
}

/**
 * GET an answer of the API. Values of `parameters` are texts or lists of texts; undefined and empty ones are left out.
 * Throws Problem; an aborted call throws the signal's reason.
 */
export async function ask(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") query.append(name, one);
  }
  let response;
  try {
    response = await fetch(`api/v1/${path}?${query}`, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({
      title: "The console does not answer",
      detail: "The page cannot reach the server that it came from.",
      hint: "Check that `egresslens console` still runs and that the network is up. The page tries again by itself.",
      status: 0,
    });
  }
  if (response.ok) return response.json();
  throw new Problem({ status: response.status, title: response.statusText, ...(await details(response)) });
}

async function details(response) {
  try {
    return await response.json();
  } catch {
    return { detail: `The server answered ${response.status} without saying why.` };
  }
}
