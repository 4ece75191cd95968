// Kept small on purpose: a key in the address is taken out of it before the editor's
// megabytes arrive.
import "./page.css";
import { takeKeyFromAddress } from "./credential";

takeKeyFromAddress();
window.addEventListener("hashchange", takeKeyFromAddress);

const root = document.getElementById("root")!;
import("./App").then(
  ({ start }) => start(root),
  () => {
    root.querySelector(".loading")!.textContent =
      "The editor could not be loaded. Reload the page; after an upgrade of Laurel that is enough.";
  },
);
