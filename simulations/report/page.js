// Moves the large picture through time. Without it the picture stays at one moment, and nothing else is missing.
const steps = JSON.parse(document.getElementById("steps").textContent);
const slider = document.getElementById("slider");
const told = document.getElementById("told");
function show(step) {
  [...steps.links[step]].forEach((state, number) => {
    const link = document.getElementById("l" + number);
    link.setAttribute("class", "link " + steps.linkClasses[state] + (steps.links[step].length > 60 ? " many" : ""));
  });
  [...steps.nodes[step]].forEach((state, number) => {
    const node = document.getElementById("n" + number);
    const relay = node.classList.contains("relay") ? " relay" : "";
    node.setAttribute("class", "node " + steps.nodeClasses[state] + relay);
  });
  told.textContent = steps.said[step];
}
slider.max = steps.times.length - 1;
slider.value = steps.start;
slider.addEventListener("input", () => show(Number(slider.value)));
slider.closest("label").hidden = false;
show(steps.start);
