<?php
// Managed by socle. Lines of your own: `extra-settings` of the instance.
if ( !defined( 'MEDIAWIKI' ) ) {
	exit;
}
$wgSitename = {{ param.title }};
$wgMetaNamespace = 'Project';
$wgLanguageCode = {{ param.lang }};

$wgServer = {{ "//" ~ domain }};
$wgCanonicalServer = {{ scheme ~ "://" ~ domain }};
$wgScriptPath = '';
$wgArticlePath = '/wiki/$1';
$wgResourceBasePath = '';

// The database server knows the system user at the other end of the socket: there is no password.
$wgDBtype = 'mysql';
$wgDBserver = 'localhost:/run/mysqld/mysqld.sock';
$wgDBname = {{ db }};
$wgDBuser = {{ user }};
$wgDBpassword = '';
$wgDBprefix = '';
$wgDBTableOptions = 'ENGINE=InnoDB, DEFAULT CHARSET=binary';

$wgSecretKey = {{ secret.secret_key }};
$wgUpgradeKey = {{ secret.upgrade_key }};
$wgAuthenticationTokenVersion = '1';

$wgMainCacheType = CACHE_ACCEL;
$wgCacheDirectory = {{ data ~ "/cache" }};
$wgEnableUploads = true;
$wgUploadDirectory = {{ data ~ "/images" }};
$wgUploadPath = '/images';
$wgTmpDirectory = '/tmp';
$wgUseImageMagick = false;
// A timer runs the jobs, visits do not.
$wgJobRunRate = 0;
{% if param.admin_email %}
$wgEmergencyContact = {{ param.admin_email }};
$wgPasswordSender = {{ param.admin_email }};
{% else %}
$wgEnableEmail = false;
{% endif %}

wfLoadSkin( 'Vector' );

{{ param.extra_settings | safe }}
