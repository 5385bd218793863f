// Names of columns without case, blanks and signs: those of pipeline/cli/column_names.py, by
// `make deps`.
export const NAMES = {
  date: ["date", "quotedate", "tradedate", "tradingdate", "asofdate", "asof", "valuationdate", "datadate", "obsdate", "businessdate", "reportdate", "tdate", "observationdate", "pricingdate", "businessday", "day", "datum", "handelstag", "stichtag"],
  expiry: ["expiry", "expiration", "expirationdate", "expirydate", "expdate", "exdate", "expiredate", "maturitydate", "expirdate", "maturity", "exp", "expire", "verfall", "verfallstag", "verfalldatum", "laufzeit", "expirationtimestamp", "expirytimestamp", "expirationtime", "expirytime", "expirationdatetime", "optionexpiry", "optionexpiration", "lasttradedateorcontractmonth", "f\u00e4lligkeit"],
  tenor: ["tenor", "maturity", "term", "expiry", "expiration", "exp", "laufzeit", "optiontenor", "optionexpiry", "optionmaturity"],
  tenor_years: ["tenoryears", "texp", "tte", "ttm", "tau", "t", "yearfraction", "yearstoexpiry", "timetomaturity", "timetoexpiry", "maturityyears", "yte", "years", "tenor", "maturity"],
  days: ["days", "dte", "daystoexpiry", "daystomaturity", "daystoexpiration", "dtm", "tenordays", "daystoexp"],
  log_moneyness: ["logmoneyness", "logforwardmoneyness", "lnkf", "logkf", "logm", "k", "moneyness"],
  moneyness: ["moneyness", "mny", "kf"],
  call_delta: ["calldelta", "delta", "forwarddelta"],
  delta: ["delta", "forwarddelta", "optiondelta"],
  strike: ["strike", "strikeprice", "strk", "k", "x", "basispreis", "aus\u00fcbungspreis"],
  forward: ["forward", "fwd", "forwardprice", "fwdprice", "f", "impliedforward", "underlyingforward", "fut", "future", "futuresprice", "futureprice", "futuressettlement", "futuressettle", "swaprate", "forwardswaprate", "forwardrate"],
  iv: ["iv", "impliedvol", "impliedvolatility", "implvol", "impvol", "vol", "volatility", "sigma", "markiv", "midiv", "ivmid", "midvol", "implvolatility", "smoothiv", "blackvol", "vola", "implvola", "implizitevola", "implizitevolatilit\u00e4t", "volatilit\u00e4t", "lognormalvol", "lognormalvolatility", "volbp", "volbps", "ivbp"],
  bid_iv: ["bidiv", "ivbid", "bidvol", "bidimpliedvol", "impliedvolbid", "bestbidiv"],
  ask_iv: ["askiv", "ivask", "askvol", "askimpliedvol", "impliedvolask", "bestaskiv", "offeriv"],
  weight: ["weight"],
};
