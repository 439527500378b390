"use strict";

// Completion by prefix.cc and by other services would need the network.
Yasgui.Yasqe.defaults.autocompleters = ["variables"];
Yasgui.Yasqe.defaults.value = "SELECT * WHERE {\n  ?s ?p ?o\n}\nLIMIT 10\n";

const endpointOf = (dataset) => new URL(`/rdf/${encodeURIComponent(dataset)}/query`, window.location.href).href;

async function start() {
  const response = await fetch("/rdf", { headers: { Accept: "application/json" } });
  const { datasets } = await response.json();
  if (datasets.length === 0) {
    document.getElementById("empty").hidden = false;
    return;
  }
  const select = document.getElementById("dataset");
  select.append(...datasets.map((dataset) => new Option(dataset, dataset)));
  const wanted = new URLSearchParams(window.location.search).get("dataset");
  if (datasets.includes(wanted)) {
    select.value = wanted;
  }
  const yasgui = new Yasgui(document.getElementById("yasgui"), {
    requestConfig: { endpoint: endpointOf(select.value), method: "POST" },
    endpointCatalogueOptions: { getData: () => [] },
    copyEndpointOnNewTab: true,
    persistenceId: "pyralog",
    persistencyExpire: 0,
  });
  const use = () => {
    for (const id of Object.keys(yasgui._tabs)) {
      yasgui.getTab(id).setEndpoint(endpointOf(select.value));
    }
  };
  use();
  yasgui.on("tabAdd", (_, id) => setTimeout(() => yasgui.getTab(id)?.setEndpoint(endpointOf(select.value))));
  select.addEventListener("change", use);
}

start();
