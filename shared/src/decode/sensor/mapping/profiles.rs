//! What widespread devices and networks send, as far as the names alone do not tell it: tables, read like the lines of a
//! mapping. Names that everybody understands, such as `humidity`, need no line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose messages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProfileName {
    /// Ecowitt's customized upload, as JSON or as the form that its gateways publish.
    #[serde(rename = "ecowitt")]
    Ecowitt,
    /// Tasmota's `SENSOR` and `STATE` messages.
    #[serde(rename = "tasmota")]
    Tasmota,
    /// Shelly: the first generation's `info` and single values, the later ones' status and notifications.
    #[serde(rename = "shelly")]
    Shelly,
    /// Events of rtl_433 as JSON.
    #[serde(rename = "rtl_433")]
    Rtl433,
    /// Davis WeatherLink: WeatherLink Live's conditions, and the answers over the internet.
    #[serde(rename = "weatherlink")]
    Weatherlink,
    /// Uplinks of The Things Stack (TTN) and other LoRaWAN networks, with the names of widespread payload formatters.
    #[serde(rename = "ttn")]
    Ttn,
    /// SenML (RFC 8428) in JSON.
    #[serde(rename = "senml")]
    Senml,
}

/// What tells a value's unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// The message, else it is in our unit.
    ByMessage,
    Unit(&'static str),
    /// It counts steps, whose size another field names: the field, and for each of its values the size in our unit.
    Steps(&'static str, &'static [(f64, f64)]),
}

/// Of several lines for one of our fields, the first whose path is there counts.
#[derive(Debug)]
pub(super) struct ProfileLine {
    pub(super) path: &'static str,
    pub(super) field: &'static str,
    pub(super) told: Told,
}

#[derive(Debug)]
pub(super) struct Profile {
    pub(super) lines: &'static [ProfileLine],
    /// Known and no measures: patterns.
    pub(super) ignored: &'static [&'static str],
    /// Where the time of measurement stands, if no name may be trusted to be it; the first that is there counts.
    pub(super) times: &'static [&'static str],
    /// A body that is no JSON may be a form, as HTTP has it.
    pub(super) takes_forms: bool,
    pub(super) is_senml: bool,
}

const fn line(path: &'static str, field: &'static str, unit: &'static str) -> ProfileLine {
    ProfileLine { path, field, told: Told::Unit(unit) }
}

const fn as_told(path: &'static str, field: &'static str) -> ProfileLine {
    ProfileLine { path, field, told: Told::ByMessage }
}

/// Davis counts tips of the rain gauge's spoon; `rain_size` names it: 0.01 in, 0.2 mm, 0.1 mm, 0.001 in.
const fn tips(path: &'static str, field: &'static str) -> ProfileLine {
    let sizes = &[(1.0, 0.254), (2.0, 0.2), (3.0, 0.1), (4.0, 0.0254)];
    ProfileLine { path, field, told: Told::Steps("rain_size", sizes) }
}

const PLAIN: Profile = Profile { lines: &[], ignored: &[], times: &[], takes_forms: false, is_senml: false };

impl ProfileName {
    pub(super) fn table(self) -> &'static Profile {
        match self {
            ProfileName::Ecowitt => &ECOWITT,
            ProfileName::Tasmota => &TASMOTA,
            ProfileName::Shelly => &SHELLY,
            ProfileName::Rtl433 => &RTL_433,
            ProfileName::Weatherlink => &WEATHERLINK,
            ProfileName::Ttn => &TTN,
            ProfileName::Senml => &SENML,
        }
    }
}

static ECOWITT: Profile = Profile {
    lines: &[
        line("tempf", "temperature_c", "F"),
        line("tempc", "temperature_c", "C"),
        line("dewpointf", "dew_point_c", "F"),
        line("baromrelin", "sea_level_pressure_hpa", "inHg"),
        line("baromrelhpa", "sea_level_pressure_hpa", "hPa"),
        line("baromabsin", "pressure_hpa", "inHg"),
        line("baromabshpa", "pressure_hpa", "hPa"),
        line("windspeedmph", "wind_speed_m_s", "mph"),
        line("windspeedkmh", "wind_speed_m_s", "km/h"),
        line("windgustmph", "wind_gust_m_s", "mph"),
        line("windgustkmh", "wind_gust_m_s", "km/h"),
        line("rainratein", "precipitation_rate_mm_h", "in/h"),
        line("rrain_piezo", "precipitation_rate_mm_h", "in/h"),
        line("hourlyrainin", "precipitation_hour_mm", "in"),
        line("hrain_piezo", "precipitation_hour_mm", "in"),
        line("dailyrainin", "precipitation_day_mm", "in"),
        line("drain_piezo", "precipitation_day_mm", "in"),
        line("totalrainin", "precipitation_total_mm", "in"),
        line("solarradiation", "solar_radiation_w_m2", "W/m2"),
        line("uv", "uv_index", "index"),
        line("soilmoisture1", "soil_moisture_percent", "%"),
        line("pm25_ch1", "pm2_5_ug_m3", "ug/m3"),
        line("pm25_co2", "pm2_5_ug_m3", "ug/m3"),
        line("pm10_co2", "pm10_0_ug_m3", "ug/m3"),
        line("pm1_co2", "pm1_0_ug_m3", "ug/m3"),
        line("co2", "carbon_dioxide_ppm", "ppm"),
        line("wh90batt", "battery_v", "V"),
        line("wh80batt", "battery_v", "V"),
    ],
    ignored: &[
        "*batt*",
        "*rain_piezo",
        "PASSKEY",
        "co2_24h",
        "eventrainin",
        "gain*_piezo",
        "heap",
        "humi_co2",
        "humidityin",
        "interval",
        "last24hrainin",
        "maxdailygust",
        "monthlyrainin",
        "pm*_24h*",
        "runtime",
        "soilad*",
        "tempinc",
        "tempinf",
        "tf_co2",
        "vpd",
        "weeklyrainin",
        "winddir_avg10m",
        "windspdmph_avg10m",
        "ws90_ver",
        "ws90cap_volt",
        "yearlyrainin",
    ],
    takes_forms: true,
    ..PLAIN
};

static TASMOTA: Profile = Profile {
    lines: &[line("Wifi.Signal", "signal_dbm", "dBm")],
    ignored: &[
        "*.CF*",
        "*.Id",
        "*.PB*",
        "Berry*",
        "ESP32*",
        "Heap",
        "LoadAvg",
        "MqttCount",
        "POWER*",
        "Sleep*",
        "Uptime*",
        "Wifi*",
    ],
    ..PLAIN
};

static SHELLY: Profile = Profile {
    lines: &[
        line("tmp.tC", "temperature_c", "C"),
        as_told("tmp", "temperature_c"),
        line("hum.value", "relative_humidity_percent", "%"),
        line("lux.value", "illuminance_lux", "lux"),
        line("bat.value", "battery_percent", "%"),
        line("bat.voltage", "battery_v", "V"),
        line("wifi_sta.rssi", "signal_dbm", "dBm"),
        line("temperature:0.tC", "temperature_c", "C"),
        line("temperature:100.tC", "temperature_c", "C"),
        line("tC", "temperature_c", "C"),
        line("humidity:0.rh", "relative_humidity_percent", "%"),
        line("humidity:100.rh", "relative_humidity_percent", "%"),
        line("rh", "relative_humidity_percent", "%"),
        line("illuminance:0.lux", "illuminance_lux", "lux"),
        line("devicepower:0.battery.V", "battery_v", "V"),
        line("devicepower:0.battery.percent", "battery_percent", "%"),
        line("battery.V", "battery_v", "V"),
        line("battery.percent", "battery_percent", "%"),
        line("wifi.rssi", "signal_dbm", "dBm"),
    ],
    ignored: &[
        "*.errors",
        "act_reasons",
        "*.is_valid",
        "*illumination",
        "*tF",
        "actions_stats*",
        "ble*",
        "bthome*",
        "cfg_changed_cnt",
        "cloud*",
        "connect_retries",
        "devicepower*external*",
        "dst",
        "external*",
        "fs_*",
        "getinfo*",
        "has_update",
        "ht_ui*",
        "is_valid",
        "mqtt*",
        "ram_*",
        "sys*",
        "time",
        "tmp",
        "tmp.*",
        "hum",
        "hum.*",
        "unixtime",
        "update*",
        "wifi*",
        "ws*",
    ],
    // `time` is the hour and minute of its own zone.
    times: &["ts", "unixtime", "sys.unixtime"],
    ..PLAIN
};

static RTL_433: Profile = Profile {
    lines: &[
        line("moisture", "soil_moisture_percent", "%"),
        line("light_lux", "illuminance_lux", "lux"),
        line("light_klx", "illuminance_lux", "klx"),
        line("uv", "uv_index", "index"),
        line("uvi", "uv_index", "index"),
        line("pressure_kPa", "pressure_hpa", "kPa"),
        line("pressure_hPa", "pressure_hpa", "hPa"),
        line("rain_mm", "precipitation_total_mm", "mm"),
        line("rain_in", "precipitation_total_mm", "in"),
        line("rain_rate_mm_h", "precipitation_rate_mm_h", "mm/h"),
        line("rain_rate_in_h", "precipitation_rate_mm_h", "in/h"),
        line("pm1_ug_m3", "pm1_0_ug_m3", "ug/m3"),
        line("pm2_5_ug_m3", "pm2_5_ug_m3", "ug/m3"),
        line("pm10_ug_m3", "pm10_0_ug_m3", "ug/m3"),
        line("pm10_0_ug_m3", "pm10_0_ug_m3", "ug/m3"),
        line("co2_ppm", "carbon_dioxide_ppm", "ppm"),
        line("battery_V", "battery_v", "V"),
        line("battery_mV", "battery_v", "mV"),
        line("battery_pct", "battery_percent", "%"),
    ],
    // Its `rssi`, `snr` and `noise` are the receiver's, relative to its full scale.
    ignored: &[
        "rssi",
        "snr",
        "noise",
        "freq*",
        "mod",
        "mic",
        "channel",
        "codes",
        "data",
        "flags",
        "supercap_V",
        "startup",
        "transmit",
        "storm_dist_*",
        "strike_*",
    ],
    ..PLAIN
};

static WEATHERLINK: Profile = Profile {
    lines: &[
        line("bar_absolute", "pressure_hpa", "inHg"),
        line("bar_sea_level", "sea_level_pressure_hpa", "inHg"),
        line("rain_rate_last_mm", "precipitation_rate_mm_h", "mm/h"),
        tips("rain_rate_last", "precipitation_rate_mm_h"),
        line("rainfall_last_60_min_mm", "precipitation_hour_mm", "mm"),
        line("rainfall_60_min_mm", "precipitation_hour_mm", "mm"),
        tips("rainfall_last_60_min", "precipitation_hour_mm"),
        tips("rainfall_60_min", "precipitation_hour_mm"),
        line("rainfall_daily_mm", "precipitation_day_mm", "mm"),
        line("rainfall_day_mm", "precipitation_day_mm", "mm"),
        tips("rainfall_daily", "precipitation_day_mm"),
        line("wind_speed_avg_last_1_min", "wind_speed_m_s", "mph"),
        line("wind_speed_avg", "wind_speed_m_s", "mph"),
        line("wind_speed_last", "wind_speed_m_s", "mph"),
        line("wind_speed_hi_last_2_min", "wind_gust_m_s", "mph"),
        line("wind_speed_hi_last_10_min", "wind_gust_m_s", "mph"),
        line("wind_speed_hi", "wind_gust_m_s", "mph"),
        line("wind_dir_last", "wind_direction_deg", "deg"),
        line("wind_dir_of_prevail", "wind_direction_deg", "deg"),
        line("pm_1", "pm1_0_ug_m3", "ug/m3"),
        line("pm_2p5", "pm2_5_ug_m3", "ug/m3"),
        line("pm_10", "pm10_0_ug_m3", "ug/m3"),
    ],
    ignored: &[
        "*_in",
        "bar_trend",
        "data_structure_type",
        "et_*",
        "heat_index*",
        "*_degree_days*",
        "pm_*",
        "pct_pm_data_*",
        "rain_*",
        "rainfall_*",
        "rx_state",
        "thsw_index*",
        "thw_index*",
        "trans_battery_flag",
        "wet_bulb*",
        "wind_chill*",
        "wind_dir_*",
        "wind_run*",
        "wind_speed_*",
    ],
    ..PLAIN
};

static TTN: Profile = Profile {
    lines: &[
        line("TempC_SHT", "temperature_c", "C"),
        line("TempC_SHT31", "temperature_c", "C"),
        line("TempC1", "temperature_c", "C"),
        line("Hum_SHT", "relative_humidity_percent", "%"),
        line("Hum_SHT31", "relative_humidity_percent", "%"),
        line("temp_SOIL", "soil_temperature_c", "C"),
        line("water_SOIL", "soil_moisture_percent", "%"),
        line("ILL_lux", "illuminance_lux", "lux"),
        line("ILL_lx", "illuminance_lux", "lux"),
        line("BatV", "battery_v", "V"),
        line("Bat_V", "battery_v", "V"),
        line("Bat", "battery_v", "V"),
        line("vdd", "battery_v", "mV"),
    ],
    ignored: &[
        "Bat_status",
        "Ext_sensor",
        "Exti_*",
        "Exit_*",
        "Interrupt_*",
        "Message_type",
        "Node_type",
        "No_connect",
        "Work_mode",
        "conduct_SOIL",
    ],
    ..PLAIN
};

static SENML: Profile = Profile { is_senml: true, ..PLAIN };
